"""Every limit on what others wrote: ours, never the file's own. docs/security.md says what each is for.

Sizes are bytes. What is larger is refused by name before memory is taken; a need beyond is an edit here, in one place.
What is cut where it is shown, and what other programs take (MLflow, file formats), is no such limit.
"""

KIB, MIB, GIB = 2**10, 2**20, 2**30

# Text: YAML, JSON, JSON lines.
YAML_BYTES = 4 * MIB
YAML_NODES = 200_000  # an alias counts as often as it is used
NESTING = 64
NUMBER_CHARACTERS = 100
JSON_BYTES = 32 * MIB
JSON_VALUES = 4_000_000  # a value takes some 60 bytes once it is read
JSON_LINES_BYTES = 64 * MIB
TABLES_OF_TEXT_BYTES = 64 * KIB  # one attribute or metadata value
SHOWN_CHARACTERS = 2000  # of what was found, in an error
ERROR_CHARACTERS = 32 * KIB  # of a foreign error that is passed on: its beginning and its end hold what one looks for

# Arrays and pictures.
PIXELS = 16 * MIB  # of one frame
ARRAYS = 256  # in one archive
ARCHIVE_BYTES = 768 * MIB  # of one archive, unpacked
RATIO = 1000  # unpacked to packed
DIMENSIONS = 16
NUMBERS_BYTES = 256 * MIB  # of an array that is read whole
FRAMES_BYTES = 8 * GIB  # of frames that are read one at a time
DIRECTORY_BYTES = MIB  # of an archive's list of members
CHUNK_BYTES = 64 * MIB  # of an HDF5 dataset, unpacked at once

PROBE_SECONDS = 5  # of processor time, to look over one HDF5 file

# Metadata of datasets.
METADATA_BYTES = 64 * KIB  # of one episode
LANGUAGE_CHARACTERS = 4096  # of one instruction
MASKED_DEMOS = 10**6  # that one mask of an HDF5 file lists
GROUP_DEPTH, GROUP_NODES = 8, 4096  # of a demo in an HDF5 file
FIRST_FRAME = 10**8  # frames of one video, rows of one dataset
FRAME_RATE = 10_000  # frames a second

# Records and tables.
RECORD_BYTES = 512 * MIB  # a TFRecord
RECORD_FIELDS = 4_000_000
INFLATED_BYTES = 256 * MIB  # of one feature of a record
FEATURES = 4096
EPISODE_STEPS = 1_000_000
TABLE_ROWS = 10_000_000
TABLE_FILE_BYTES = 2 * GIB
TABLE_BYTES = GIB  # of a table, unpacked
READING_BYTES = 2 * GIB  # that a library may reserve while it reads what cannot be bounded otherwise

# Models.
HEADER_BYTES = 16 * MIB  # of safetensors
TENSORS = 20_000
LAYERS = 1024
WIDTH = 2**17  # of a layer, a window, a picture's side, a codebook's vector
HIDDEN_BYTES = 512 * MIB  # that a model builds beside its weights (masks, tables of positions)
TASKS = 1000  # instructions of a reward head: each has an output of its own; those that somebody typed are no tasks
STATE_MANIFEST_BYTES = MIB  # of a saved state that lies elsewhere: it lists two files

# Names that come from a file.
PATH_CHARACTERS, PATH_PART_BYTES = 1024, 255  # no file system of ours takes more

# Records of lineage.
LEDGER_LINE_BYTES = 16 * MIB
KEY_BYTES = 16 * KIB  # of a key in PEM
STATEMENTS_BYTES = 64 * MIB  # of all statements that a bundle brings

GIT_SECONDS = 60  # of one command in a repository that may be anybody's; each takes seconds where a disk is not broken
RERUN_SECONDS = 24 * 3600  # of a stage that is run again from what a record says: trainings may take most of a day

# Networks.
REPLY_BYTES = MIB  # that is held in memory at once
REPLY_SECONDS = 60.0  # without a byte, of a download: a busy bucket takes some seconds
REDIRECTS = 5

# Servers of policies (whale/policies, scripts/serve_lerobot.py). Theirs are the messages and the time that they take.
MESSAGE_BYTES = 64 * MIB  # a chunk of 1,000 actions has 28 KB, a frame of 4096 x 4096 fits
MESSAGE_VALUES = 100_000  # lists, maps and what is in them, all together: an empty list is one byte, and 56 in memory
MESSAGE_TEXT_BYTES = MIB  # of one text: instructions and names are short
MESSAGE_FRAMES = 2000  # until a message is whole, pings too: one is enough; a server that pings every 20 s idles 11 h
MESSAGES_WAITING = 1  # that nobody has asked for yet: each may have MESSAGE_BYTES, and only one is ever due
CHUNK_ACTIONS = 1000  # of one answer: all are carried out before the policy is asked again
CONNECT_SECONDS = 10.0  # a loopback answers in milliseconds; another machine may have to wake
ANSWER_SECONDS = 60.0  # a first answer may compile a model; who needs more says it (--answer-seconds)
CLOSE_SECONDS = 1  # for a farewell, at either end
SERVER_TEXT_CHARACTERS = 2000  # of a server's own trace: its end says what went wrong

# The page of `whale play`: what a browser, or whoever found the port, may ask.
REQUEST_BYTES = 16 * KIB  # the largest honest request has a few hundred
REQUEST_HEAD_BYTES = 16 * KIB  # address and headers; browsers send one or two KiB
REQUEST_SECONDS = 10  # until a request is there as a whole: it comes from this machine
REQUESTS_AT_ONCE = 32  # a page has one or two open; more only wait for the one step that is computed
DRIVES = 4  # the oldest ends where a fifth begins: each keeps its states
DRIVE_STEPS = 256  # of one drive: every one is kept, to go back to
NAMED_CHARACTERS = 200  # of a dataset or policy that is asked for: longer than any name that is known
AXES = 32  # of one action by keys: two arms with hands

# Judges: a vision model behind an address, and the pairs of frames that it is shown.
JUDGE_SECONDS, JUDGE_MOST_SECONDS = 60.0, 600.0  # of one request as a whole: by itself, and at most as a file may say
JUDGE_REPLY_BYTES, JUDGE_MOST_REPLY_BYTES = 256 * KIB, 16 * MIB  # of one reply, likewise; 4,000 characters are used
JUDGE_RETRIES = 10  # of one question, as a file may say: each is paid
JUDGE_ANSWER_CHARACTERS = 4000  # of an answer that are kept and sent back in the next turn: its first word counts
JUDGE_TOKENS = 10**7  # that a server may say it took for one request: more would be no bill but a lie
JUDGE_SHOWN_BYTES = 12 * KIB  # of a reply, that are looked at for what an error shows of it
PROMPT_CHARACTERS = 4000  # of a question: some paragraphs
QUOTED_CHARACTERS = 256  # of an instruction that a judge is shown: room for a task, not for a speech
SOURCE_CHARACTERS = 200  # of a name in source.json, which stands in a protocol string
PAIRS = 100_000  # in one folder
PAIR_FILE_BYTES = 16 * MIB  # of one frame as it is packed; a PNG of 2048 x 2048 has less
PAIRS_BYTES = 4 * GIB  # of all frames of a folder together, unpacked: they are held at once; 10,000 pairs of 256 x 256

# Videos of other systems.
ANSWER_FILE_BYTES = GIB  # of one answer, frames.npy: 80 frames of 2048 x 2048

# Worlds: a bundle's own words.
WINDOW_FRAMES = 1024  # that a model remembers; caches reserve room for all of them
CALIBRATED_STEPS = 10_000  # of one calibration, each with a mean and a scale
RETRACED_STEPS, RETRACED_DEPTHS = 1024, 64  # back from a frame, and how many such ways: each is computed at every step
DRAWS = 1024  # of one frame, for its uncertainty

# MLflow's store and the spools that it is made from.
FOUND_ROWS = 100_000  # of one search, over all of its pages: a run or a version is one; far more than a project makes
FOUND_PAGE = 1000  # rows of one page; more than that some of MLflow's searches refuse
STORE_ROWS = 2_000_000  # of one reading of the file behind it: each is held, and takes some 500 bytes
STORE_BYTES = 512 * MIB  # of all that such a reading holds
STORE_VALUE_BYTES = MIB  # of one value, and of one row: MLflow's own longest have 8,000 characters
STORE_INSTRUCTIONS = 10**9  # of SQLite, for one reading: two million rows take a twentieth, a minute runs out of them
SPOOL_BYTES = GIB  # of one run: a line has some 300, a million steps are a third of it
PICTURE_BYTES = 32 * MIB  # that is copied, so that the page can show it
