"""What front end and recipe have in common."""

import dataclasses
import hashlib
import json
from typing import Any, Literal, Self, get_args, get_origin, get_type_hints


def hash_json(value: Any) -> str:
    """Return the SHA-256 of a JSON-ready value, independent of the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


class Config:
    """Conversions and checks shared by the frozen dataclasses below."""

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Build from a plain dictionary, such as a part of a card."""
        known = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
        if unknown := sorted(set(values) - set(known)):
            raise ValueError(f"{cls.__name__} has no {unknown}; it has {known}")
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain, JSON-ready values."""
        return dataclasses.asdict(self)  # type: ignore[call-overload]

    def _check(self, *positive: str) -> None:
        """Check the fields with a few choices, and those that are whole numbers above 0."""
        for name, hint in get_type_hints(type(self)).items():
            value, allowed = getattr(self, name), get_args(hint)
            if get_origin(hint) is Literal and value not in allowed:
                raise ValueError(f"{name} must be one of {allowed}, not {value!r}")
        for name in positive:
            value = getattr(self, name)
            if not (isinstance(value, int) and value > 0):
                raise ValueError(f"{name} must be a whole number above 0, not {value!r}")


def look_up(table: dict[str, Any], name: str, what: str) -> Any:
    """Return an entry of a table, or raise an error that lists the choices."""
    if name not in table:
        raise ValueError(f"there is no {what} {name!r}; choose from {', '.join(map(repr, table))}")
    return table[name]
