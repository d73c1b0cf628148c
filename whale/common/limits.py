"""Every limit on what others wrote: ours, never the file's own. docs/security.md says what each is for.

Sizes are bytes. What is larger is refused by name before memory is taken; a need beyond is an edit here, in one place.
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

# Records of lineage.
LEDGER_LINE_BYTES = 16 * MIB
KEY_BYTES = 16 * KIB  # of a key in PEM
STATEMENTS_BYTES = 64 * MIB  # of all statements that a bundle brings

# Networks.
REPLY_BYTES = MIB  # that is held in memory at once
REDIRECTS = 5
