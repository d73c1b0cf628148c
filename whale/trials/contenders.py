"""Policies by name, as params.yaml and the command line say them."""

from collections.abc import Mapping, Sequence
from typing import Any

from whale.common.errors import ConfigError
from whale.policies.behavior import behavior
from whale.policies.fleet import SCRIPTED, scripted
from whale.policies.protocol import Contender
from whale.worlds.world import World

OWN = {"behavior": 0.0, "behavior_sampled": 1.0}  # how far pi's own noise is used
ADDRESS = ("ws://", "wss://")


def contender_of(text: str, world: World, server: Mapping[str, Any] | None = None) -> Contender:
    """`expert` and the other scripted ones, `still`, `behavior`, `behavior_sampled`, or `[NAME=]ws://HOST:PORT`.

    server: settings of `OpenpiServer` beside its address.
    """
    name, _, address = text.rpartition("=") if "=" in text else ("", "", text)
    if address.startswith(ADDRESS):
        from whale.policies.openpi import OpenpiServer, openpi  # needs the extra `policies`

        return openpi(name or address.replace("|", "_").replace("=", "_"), OpenpiServer(address, **(server or {})))
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


def contenders_of(texts: Sequence[str], world: World, server: Mapping[str, Any] | None = None) -> list[Contender]:
    """In the given order."""
    return [contender_of(text, world, server) for text in texts]
