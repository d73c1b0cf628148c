"""Policies by name, as params.yaml and the command line say them."""

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from whale.common.errors import ConfigError
from whale.policies.behavior import behavior
from whale.policies.protocol import Contender
from whale.trials.episodes.fleet import SCRIPTED, scripted
from whale.worlds.world import World

OWN = {"behavior": 0.0, "behavior_sampled": 1.0}  # how far pi's own noise is used
ADDRESS = ("ws://", "wss://")
SIMULATED = "metaworld:"  # experts of a simulator: they read its true state
NAME = re.compile(r"[A-Za-z0-9_-]+")  # names become files and keys of metrics


def contender_of(text: str, world: World, server: Mapping[str, Any] | None = None) -> Contender:
    """`expert` and the other scripted ones, `still`, `behavior`, `behavior_sampled`, or `[NAME=]ws://HOST:PORT`.

    server: settings of `OpenpiServer` beside its address. A server without a name is called after its address.
    """
    name, address = _parts(text)
    if address:
        from whale.policies.openpi import OpenpiServer, openpi  # needs the extra `policies`

        return openpi(name, OpenpiServer(address, **(server or {})))
    if text.startswith(SIMULATED):
        raise ConfigError(
            "a scripted policy of Meta-World cannot act in imagination", place="policy", found=text,
            expected=f"one that looks at frames: {', '.join(OWN)}, or [NAME=]ws://HOST:PORT",
            remedy="it reads 39 numbers of the simulator's state, which no imagined frame holds; what its recorded "
            "actions are worth in the world, beside their true returns, is the stage evaluate_values",
        )  # fmt: skip
    if text in OWN:
        model = world.model.behavior
        if model is None:
            raise ConfigError("this dynamics has no behavior model beside it", place="policy", found=text,
                              remedy="choose a dynamics with z")  # fmt: skip
        return behavior(text, model, world.contract.normalizer, world.window, OWN[text], world.identity)
    if text in (*SCRIPTED, "still"):
        return scripted(text)
    raise ConfigError("no such policy", place="policy", found=text,
                      expected=", ".join([*SCRIPTED, "still", *OWN, "ws://127.0.0.1:PORT"]))  # fmt: skip


def contenders_of(
    texts: Sequence[str], world: World, server: Mapping[str, Any] | None = None, reserved: Sequence[str] = ()
) -> list[Contender]:
    """In the given order. ConfigError for two of one name, and for one of `reserved`: the other would vanish; no
    server is called before that is known."""
    require_own_names([_parts(text)[0] for text in texts], reserved)
    return [contender_of(text, world, server) for text in texts]


def require_own_names(names: Sequence[str], reserved: Sequence[str] = ()) -> None:
    """ConfigError unless every policy has a name of its own, none of `reserved`."""
    if taken := sorted({name for name in names if names.count(name) > 1 or name in reserved}):
        raise ConfigError("two policies of one name", place="policies", found=", ".join(taken),
                          expected=", ".join(["names of their own", *(f"not {name}" for name in reserved)]),
                          remedy="name a server yourself: NAME=ws://HOST:PORT")  # fmt: skip


def _parts(text: str) -> tuple[str, str]:
    """(name, address of its server); "" for a policy that is no server's."""
    name, is_named, address = ("", "", text) if text.startswith(ADDRESS) else text.partition("=")
    if not address.startswith(ADDRESS):
        return text, ""
    name = name if is_named else _name_of(address)
    if not NAME.fullmatch(name):
        raise ConfigError("not a name of a policy", place="policy", found=name or "an empty name",
                          expected="letters, digits, _ and - only",
                          remedy=f"e.g. mine={address}")  # fmt: skip
    return name, address


def _name_of(address: str) -> str:
    """ws://127.0.0.1:8000 -> server-127-0-0-1-8000; what stands before an @ is nobody's business."""
    parts = urlsplit(address)
    said = "-".join(re.findall("[A-Za-z0-9_]+", parts.netloc.rpartition("@")[2] + parts.path))
    return f"server-{said}"
