"""The report that most tests of this folder start from."""

import pytest
import reports


@pytest.fixture
def content():
    return reports.content()
