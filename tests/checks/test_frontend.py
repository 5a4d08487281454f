"""The frontend's types hold, as TypeScript sees them."""

from __future__ import annotations

import pytest
from support.frontend import builder, tool


def test_types_of_the_frontend_hold() -> None:
    build = builder()
    try:
        build.run(tool(".bin/tsc"), "--noEmit")
    except build.BuildError as error:
        pytest.fail(str(error), pytrace=False)
