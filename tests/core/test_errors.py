"""Every error says what was found, expected and to be done, and has one exit code."""

import inspect

import pytest

from oncoscale.core import errors

CLASSES = [cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, errors.OncoscaleError)]


@pytest.mark.parametrize("cls", CLASSES)
def test_an_error_has_a_docstring_a_place_in_the_tree_and_an_exit_code(cls):
    """The module's own docstring lists every class; exit codes are those of the contract."""
    assert cls.__doc__
    assert cls.__name__ in errors.__doc__
    assert cls.exit_code in (2, 3, 4)


def test_the_message_has_three_parts():
    """Found, expected, remedy: one line each a user can act on."""
    error = errors.UnitMissing("Ktrans map has no unit", "1/min", "pass --unit ktrans=1/min")
    assert str(error) == "Ktrans map has no unit. Expected: 1/min. To do: pass --unit ktrans=1/min."
    assert error.kind == "UnitMissing"
