"""Files are whole or absent."""

import errno
import json

import pytest

from oncoscale.core.errors import ConfigurationRejected, StorageFault
from oncoscale.core.files import (
    canonical_json,
    content_hash,
    folder_written_whole,
    write_json,
    write_text,
    written_whole,
)


def test_a_failure_leaves_the_old_file(tmp_path):
    """An exception while writing leaves what was there, and nothing beside it."""
    target = tmp_path / "forecast.json"
    write_text(target, "old")
    with pytest.raises(RuntimeError), written_whole(target) as beside:
        beside.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["forecast.json"]


def test_a_full_disk_is_a_fault_with_nothing_left(tmp_path):
    """ENOSPC becomes StorageFault (exit code 4); no partial file remains."""
    with pytest.raises(StorageFault) as caught, written_whole(tmp_path / "x") as beside:
        beside.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.exit_code == 4
    assert list(tmp_path.iterdir()) == []


def test_a_read_only_place_is_bad_input(tmp_path):
    """A folder that may not be written is the user's to change (exit code 2)."""
    with pytest.raises(ConfigurationRejected) as caught, written_whole(tmp_path / "x"):
        raise OSError(errno.EROFS, "Read-only file system")
    assert caught.value.exit_code == 2


def test_a_folder_appears_whole(tmp_path):
    """A folder takes its final name only with everything in it."""
    with pytest.raises(RuntimeError), folder_written_whole(tmp_path / "run") as beside:
        (beside / "a").write_text("1")
        raise RuntimeError
    assert not (tmp_path / "run").exists()
    with folder_written_whole(tmp_path / "run") as beside:
        (beside / "a").write_text("1")
    assert (tmp_path / "run" / "a").read_text() == "1"


def test_equal_values_give_equal_bytes(tmp_path):
    """Order of keys does not reach the file; NaN is refused."""
    write_json(tmp_path / "a", {"b": 1.0, "a": [0.1]})
    write_json(tmp_path / "b", {"a": [0.1], "b": 1.0})
    assert content_hash(tmp_path / "a") == content_hash(tmp_path / "b")
    assert json.loads(canonical_json({"µ": 1})) == {"µ": 1}
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "c", {"a": float("nan")})
