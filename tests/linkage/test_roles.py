"""Roles: one table, asked in one place, over every command of the application."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from oncoscale.app.cli import app
from oncoscale.app.cli_guard import GuardedCommand
from oncoscale.core.errors import ConfigurationRejected, ConsentDenied
from oncoscale.linkage import audit, erasing, postgres, tables
from oncoscale.linkage.acting import UNSTATED, acting_as
from oncoscale.linkage.roles import ROLES, grant, grants, matrix, revoke, role_for, user
from oncoscale.linkage.store import Store
from oncoscale.linkage.subject import SubjectKey
from oncoscale.linkage.vault import WITH_VAULT, Vault

READING, VAULT_COMMANDS = "show", ("ingest", "import", "reidentify", "erase", "audit sign", "audit verify")


def leaves(group: typer.core.TyperGroup, above: str = "") -> Iterator[tuple[str, typer.core.TyperCommand]]:
    """Every command with its whole name."""
    for name, command in group.commands.items():
        if isinstance(command, typer.core.TyperGroup):
            yield from leaves(command, f"{above}{name} ")
        else:
            yield f"{above}{name}", command


COMMANDS = dict(leaves(typer.main.get_command(app)))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_guarded_and_has_an_entry(name: str):
    """No command of the application runs by the table, and one that names a store is somebody's."""
    assert isinstance(COMMANDS[name], GuardedCommand)
    assert name in matrix()
    names_store = any("store" in parameter.name for parameter in COMMANDS[name].params)
    assert bool(matrix()[name]) is names_store


def test_the_table_names_roles_that_there_are_and_the_vault_is_for_two():
    """Commands that open the vault are for a curator and the data protection officer alone."""
    assert {role for roles in matrix().values() for role in roles} == set(ROLES)
    assert {role for name in VAULT_COMMANDS for role in matrix()[name]} <= set(WITH_VAULT)


def test_an_open_store_is_anybodys_and_a_stated_role_still_binds(store: Store):
    """Without grants whoever holds the folder acts in the first role of the command; who states less has less."""
    assert role_for("erase", store.path) == "data-protection-officer"
    assert role_for("ingest", store.path) == "curator"
    assert role_for(READING, store.path, "viewer") == "viewer"
    with pytest.raises(ConsentDenied, match="`erase` is not for viewer"):
        role_for("erase", store.path, "viewer")
    with pytest.raises(ConfigurationRejected, match="no role 'boss'"):
        role_for(READING, store.path, "boss")


def test_from_the_first_grant_only_who_was_granted_acts(store: Store):
    """The first grant must make an admin; a user with no role is refused; a role not granted cannot be stated."""
    with pytest.raises(ConfigurationRejected, match="no admin"):
        grant(store, user(), "viewer")
    grant(store, "somebody-else", "admin")
    with pytest.raises(ConsentDenied, match="a user without a role"):
        role_for(READING, store.path)
    grant(store, user(), "viewer")
    assert role_for(READING, store.path) == "viewer"
    for command, stated in (("erase", ""), ("forecast", ""), (READING, "curator")):
        with pytest.raises(ConsentDenied, match="role"):
            role_for(command, store.path, stated)
    revoke(store, user(), "viewer")
    with pytest.raises(ConfigurationRejected, match="nobody would be admin"):
        revoke(store, "somebody-else", "admin")
    assert [(one.who, one.role) for one in grants(store)] == [("somebody-else", "admin")]
    assert [row["action"] for row in audit.entries(store)] == ["role"] * 3


def test_a_command_without_an_entry_is_nobodys_once_a_store_is_closed(store: Store):
    """What the table forgets is refused, not allowed."""
    assert role_for("new-command", store.path) == UNSTATED
    grant(store, user(), "admin")
    with pytest.raises(ConsentDenied, match="not for admin"):
        role_for("new-command", store.path)


def test_without_a_store_nobody_is_asked(tmp_path: Path):
    """A command on files alone, or on a store that is yet to be made, asks for no role."""
    assert role_for("mesh", None) == UNSTATED
    assert role_for("quantify", None) == UNSTATED
    assert role_for("ingest", tmp_path / "to-come") == "curator"


@pytest.mark.parametrize("role", ROLES)
def test_the_vault_opens_for_two_roles_only(role: str):
    """Whatever the command, the vault itself refuses the others."""
    with acting_as(role):
        if role in WITH_VAULT:
            assert Vault.open().fingerprint
        else:
            with pytest.raises(ConsentDenied, match="vault is not for"):
                Vault.open()


def test_no_table_that_names_a_subject_is_forgotten_on_postgresql():
    """Each has a policy by row; privileges name tables that there are; who erases may delete all that erasure needs."""
    named = {table.name for table in tables.metadata.sorted_tables if "subject" in table.columns}
    assert named <= postgres.SEEN.keys()
    known = {*tables.metadata.tables, "schema_version", "*"}
    assert {one for kinds in postgres.privileges().values() for on in kinds.values() for one in on} <= known
    assert postgres.privileges().keys() == set(ROLES)
    needed = erasing._rows_of(SubjectKey("P-AAAAAAAAAAAAAAAA")).keys()
    assert needed <= set(postgres.privileges()["data-protection-officer"]["DELETE"])
    changes = [kinds.get(what, ()) for kinds in postgres.privileges().values() for what in ("UPDATE", "DELETE")]
    assert not any("audit" in on for on in changes)
