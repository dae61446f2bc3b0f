"""Pages as Jinja2 templates: what is put into them is escaped there, and loses the folders of this machine."""

from __future__ import annotations

import re
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from se_nas.report.theme.palette import css_variables
from se_nas.report.theme.words import ABSENT

_ABSOLUTE = re.compile(r"(?<![\w.:/<])/(?:[^\s/<>'\",]+/)+")


def render(template: str, **values: object) -> str:
    """The page that a file of `templates/` makes of values; a name that it lacks is an error."""
    return _environment().get_template(template).render(values)


def without_folders(value: object) -> object:
    """Text without the folders of absolute paths, which belong to one machine; markup, such as a plot, as it is."""
    return value if hasattr(value, "__html__") else _ABSOLUTE.sub("…/", str(value))


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("se_nas.report.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=without_folders,  # of every value, so that no template can forget it
    )
    environment.filters["count"] = "{:,}".format
    environment.globals |= {"ABSENT": ABSENT, "css_variables": css_variables}
    return environment
