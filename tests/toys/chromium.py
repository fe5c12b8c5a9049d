"""A page in headless Chromium, where one is installed: its DOM and its console."""

import shutil
import subprocess

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def opened(page, width=1400, dark=False):
    """The page's DOM once its scripts ran, and what it wrote to the console.

    Args:
      page: path of the HTML file.
      width: of the window, in pixels; Chromium has none below 500.
    """
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(f"none of {', '.join(NAMES)} is installed")
    scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
    words = (
        f"--headless=new --no-sandbox --disable-gpu --enable-logging=stderr {scheme}"
    )
    words += f" --virtual-time-budget=9000 --window-size={width},1200 --dump-dom"
    profile = f"--user-data-dir={page.parent / 'profile'}"
    command = [found, *words.split(), profile, page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout, [x for x in done.stderr.splitlines() if "CONSOLE" in x]


def with_script(page, script, name):
    """A copy of the page that runs more, and leaves its result in an element."""
    text = page.read_text(encoding="utf-8")
    leave = """const leave = (value) => { const made = document.createElement("pre");
      made.id = "RESULT"; made.textContent = JSON.stringify(value);
      document.body.append(made); };"""
    copy = page.with_name(name)
    end = f"<script>{leave}{script}</script></body>"
    copy.write_text(text.replace("</body>", end), encoding="utf-8")
    return copy
