"""Tasks of Meta-World. The paper uses 20 and names five; the other fifteen are our choice.

The paper's own list is not published. All of ours are solved by their scripted expert within 100 simulator steps from
nearly every start.
"""

NAMED = {  # by the paper, in its Table 3
    "plate-slide": "slide the plate into the goal",
    "button-press-wall": "reach around the wall and press the button",
    "faucet-close": "close the faucet",
    "coffee-push": "push the mug under the coffee machine",
    "handle-press": "press the handle down",
}
CHOSEN = {  # ours
    "plate-slide-side": "slide the plate sideways into the goal",
    "faucet-open": "open the faucet",
    "handle-press-side": "press the handle down from the side",
    "button-press-topdown": "press the button from above",
    "door-open": "open the door",
    "door-close": "close the door",
    "door-lock": "lock the door",
    "drawer-open": "open the drawer",
    "drawer-close": "close the drawer",
    "window-open": "open the window",
    "window-close": "close the window",
    "push": "push the puck to the goal",
    "reach": "reach the goal",
    "hammer": "hammer the nail in",
    "sweep-into": "sweep the puck into the hole",
}
TASKS = NAMED | CHOSEN  # name -> instruction
MOST_STEPS = 500  # of an episode, in simulator steps
CONTROL_HZ = 80.0  # simulator steps a second
