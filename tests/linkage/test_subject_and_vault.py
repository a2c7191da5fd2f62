"""Pseudonyms and the vault that holds their key."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from oncoscale.core.errors import ConfigurationRejected
from oncoscale.linkage.store import Store
from oncoscale.linkage.subject import SubjectKey, date_shift, mapped_uid, subject_key
from oncoscale.linkage.vault import Vault, default_folder

KEY = bytes(range(32))


def test_known_answers():
    """Pseudonym, UID and date shift of the specification's key are those that it prints (linkage §A.4)."""
    assert subject_key(KEY, "site1", "0001") == "P-HNU76GYAPKGZMXDN"
    assert mapped_uid(KEY, "1.2.840.113619.2.1.1") == "2.25.16328302168084797704961140942628418281"
    assert date_shift(KEY, SubjectKey("P-HNU76GYAPKGZMXDN")) == 404


def test_blanks_and_unicode_form_do_not_matter_but_zeros_and_case_do():
    """What a human would call the same identifier gives the same pseudonym, and nothing else does."""
    assert subject_key(KEY, "site1", " 0001 ") == subject_key(KEY, "site1", "0001")
    assert subject_key(KEY, "s", "\u00e9") == subject_key(KEY, "s", "e\u0301")
    assert len({subject_key(KEY, "site1", text) for text in ("1", "01", "0001", "a", "A")}) == 5
    assert subject_key(KEY, "site1", "0001") != subject_key(KEY, "site2", "0001")


def test_other_projects_share_no_name():
    """Without the key of a project, nothing of its names can be computed: another key gives none of them."""
    names = [{subject_key(key, "site1", str(n)) for n in range(500)} for key in (KEY, bytes(32))]
    assert not names[0] & names[1]
    assert mapped_uid(KEY, "1.2.3") != mapped_uid(bytes(32), "1.2.3")


def test_uids_of_the_standard_stay():
    """A transfer syntax or a class is not an identity; every other UID changes and stays within 64 characters."""
    assert mapped_uid(KEY, "1.2.840.10008.1.2.1") == "1.2.840.10008.1.2.1"
    assert all(len(mapped_uid(KEY, f"1.2.3.{n}")) <= 44 for n in range(200))


def test_the_vault_makes_a_key_for_its_owner_alone_and_keeps_it(vault_folder: Path):
    """First use makes 32 random bytes, mode 0600; later uses find the same."""
    first = Vault.open()
    assert oct((vault_folder / "project.key").stat().st_mode & 0o777) == "0o600"
    assert len((vault_folder / "project.key").read_bytes()) == 32
    assert Vault.open().subject_key("s", "1") == first.subject_key("s", "1")
    assert (vault_folder / "project.key").read_bytes().hex() not in repr(first)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o660, 0o666])
def test_a_key_that_others_may_read_is_refused(vault_folder: Path, mode: int):
    """The key is the protection: whoever may read it may name the subjects."""
    Vault.open()
    os.chmod(vault_folder / "project.key", mode)
    with pytest.raises(ConfigurationRejected, match="mode"):
        Vault.open()


def test_a_key_of_another_length_is_refused(vault_folder: Path):
    """A truncated key would silently split every subject in two."""
    Vault.open()
    (vault_folder / "project.key").write_bytes(b"short")
    with pytest.raises(ConfigurationRejected, match="bytes"):
        Vault.open()


def test_the_vault_may_not_travel_with_the_data(tmp_path: Path, store: Store):
    """Not in the store, not in any store, not below a folder under version control."""
    with pytest.raises(ConfigurationRejected, match="in the store"):
        Vault.open(store.path / "vault", store=store.path)
    with pytest.raises(ConfigurationRejected, match="in a store"):
        Vault.open(store.path / "deep" / "vault")
    (tmp_path / "project" / ".git").mkdir(parents=True)
    with pytest.raises(ConfigurationRejected, match="version control"):
        Vault.open(tmp_path / "project" / "vault")
    assert not (tmp_path / "project" / "vault").exists()


def test_the_list_of_subjects_is_encrypted_and_opens_with_its_key(vault_folder: Path, vault: Vault):
    """Re-identification needs the vault; its file shows no identifier; another key does not open it."""
    key = vault.subject_key("site1", "HOSP-0001")
    vault.remember(key, "site1", "HOSP-0001")
    vault.remember(vault.subject_key("site1", "B"), "site1", "B")
    assert vault.reidentify(key) == ("site1", "HOSP-0001")
    assert b"HOSP" not in (vault_folder / "subjects.vault").read_bytes()
    assert oct((vault_folder / "subjects.vault").stat().st_mode & 0o777) == "0o600"
    (vault_folder / "project.key").write_bytes(bytes(32))
    with pytest.raises(ConfigurationRejected, match="does not open"):
        Vault.open().reidentify(key)


def test_where_the_vault_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """The environment decides, then XDG, then the home folder."""
    assert default_folder() == Path(os.environ["ONCOSCALE_VAULT"])
    monkeypatch.delenv("ONCOSCALE_VAULT")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "x"))
    assert default_folder() == tmp_path / "x" / "oncoscale" / "vault"
    monkeypatch.delenv("XDG_CONFIG_HOME")
    assert default_folder() == Path.home() / ".config" / "oncoscale" / "vault"
