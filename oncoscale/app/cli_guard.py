"""The one place where roles are asked: before every command of the application, by linkage/roles.py."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperCommand

from .console import Session


class GuardedCommand(TyperCommand):
    """A command that runs only in a role that may run it on the store it names."""

    def invoke(self, ctx: Any) -> Any:
        """Ask for the role, act in it, run the command."""
        with Session(bool(ctx.params.get("json")), bool(ctx.params.get("quiet"))):
            role = _role_of(ctx)
        if not role:
            return super().invoke(ctx)
        from ..linkage.acting import acting_as

        with acting_as(role):
            return super().invoke(ctx)


def guard(app: typer.Typer) -> None:
    """Guard every command of an application and of the groups in it; call it when the application is complete."""
    for command in app.registered_commands:
        command.cls = GuardedCommand
    for group in app.registered_groups:
        if group.typer_instance is not None:
            guard(group.typer_instance)


def _role_of(ctx: Any) -> str:
    """The role to act in; empty where the command names no store."""
    store, stated = ctx.params.get("store"), ctx.find_root().params.get("role") or ""
    if store is None and not stated:
        return ""
    from ..linkage.roles import role_for

    return role_for(ctx.command_path.partition(" ")[2], store, stated)
