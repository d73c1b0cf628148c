"""What the canonical actions of a rehearsal must be, from the simulated motion alone.

Nothing here comes from data_specs/ or from what records and reads raw episodes: for each dataset one line says what its
actions are in physical terms (as the papers of the datasets do), computed with SciPy from poses and commands.
Shapes: T steps of the motion, A = 7.
"""

import numpy as np
from scipy.spatial.transform import Rotation

CONVERTED = "_converted_externally_to_rlds"
SPEED, SPIN = 16.0, 5.0  # of robots whose command is a share of the fastest one
# translation, rotation: sent = the command; share = the command as a share; reached = what the pose did, angle by
# angle; turned = what the pose did, as one rotation; none. gripper: sent, ahead = the command that follows, opening =
# as measured, shut, open. The last two: steps that are left out in front and behind.
MEANING = {
    "fractal20220817_data": ("sent", "sent", "sent", 0, 0),
    "kuka": ("sent", "sent", "sent", 0, 0),
    "bridge_orig": ("reached", "reached", "ahead", 1, 1),
    "taco_play": ("share", "share", "sent", 0, 0),
    "jaco_play": ("sent", "none", "sent", 0, 0),
    "berkeley_cable_routing": ("share", "share", "shut", 0, 0),
    "roboturk": ("sent", "sent", "sent", 0, 0),
    "viola": ("share", "share", "sent", 0, 0),
    "berkeley_autolab_ur5": ("sent", "sent", "sent", 0, 0),
    "toto": ("reached", "reached", "shut", 0, 1),
    "language_table": ("sent", "none", "open", 0, 0),
    "stanford_hydra_dataset" + CONVERTED: ("sent", "sent", "sent", 0, 0),
    "austin_buds_dataset" + CONVERTED: ("share", "share", "sent", 0, 0),
    "nyu_franka_play_dataset" + CONVERTED: ("sent", "turned", "sent", 0, 0),
    "furniture_bench_dataset" + CONVERTED: ("sent", "turned", "sent", 0, 0),
    "ucsd_kitchen_dataset" + CONVERTED: ("reached", "reached", "sent", 0, 1),
    "austin_sailor_dataset" + CONVERTED: ("share", "share", "sent", 0, 0),
    "austin_sirius_dataset" + CONVERTED: ("share", "share", "sent", 0, 0),
    "dlr_edan_shared_control" + CONVERTED: ("sent", "turned", "sent", 0, 0),
    "iamlab_cmu_pickup_insert" + CONVERTED: ("reached", "turned", "sent", 0, 1),
    "utaustin_mutex": ("share", "share", "sent", 0, 0),
    "berkeley_fanuc_manipulation": ("sent", "sent", "opening", 0, 0),
    "cmu_stretch": ("sent", "sent", "sent", 0, 0),
    "bc_z": ("sent", "turned", "sent", 0, 0),
    "fmb_dataset": ("share", "share", "sent", 0, 0),
    "dobbe": ("sent", "sent", "sent", 0, 0),
    "droid": ("share", "share", "sent", 0, 0),
}


def expected_actions(name: str, motion) -> np.ndarray:
    """(T', 7): dx dy dz, droll dpitch dyaw, gripper with 1 = open; `motion` as whale/sim/rehearsal/motion.py has it."""
    translation, rotation, gripper, front, behind = MEANING[name]
    pose_TP, sent_TA = motion.states.pose, motion.command_TA.astype(np.float64)
    still_13 = np.zeros((1, 3))
    xyz = {
        "sent": sent_TA[:, :3],
        "share": SPEED * sent_TA[:, :3],
        "reached": np.concatenate([pose_TP[1:, :3] - pose_TP[:-1, :3], still_13]),
    }[translation]
    angles_T3 = pose_TP[1:, 3:] - pose_TP[:-1, 3:]
    poses = Rotation.from_euler("xyz", pose_TP[:, 3:])
    rpy = {
        "sent": sent_TA[:, 3:6],
        "share": SPIN * sent_TA[:, 3:6],
        "none": np.zeros((len(motion), 3)),
        "reached": np.concatenate([np.arctan2(np.sin(angles_T3), np.cos(angles_T3)), still_13]),
        "turned": np.concatenate([(poses[1:] * poses[:-1].inv()).as_euler("xyz"), still_13]),
    }[rotation]
    last = sent_TA[-1:, 6]
    opening = {
        "sent": sent_TA[:, 6],
        "ahead": np.concatenate([sent_TA[1:, 6], last]),
        "opening": motion.states.gripper,
        "shut": np.zeros(len(motion)),
        "open": np.ones(len(motion)),
    }[gripper]
    return np.column_stack([xyz, rpy, opening])[front : len(motion) - behind]
