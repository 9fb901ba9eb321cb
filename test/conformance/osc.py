# SPDX-License-Identifier: Apache-2.0

"""Runs openstackclient's commands, one after the other, in one process.

Each line on standard input is a JSON array of arguments, as in a shell; each
line on standard output is what came of it: {"code", "stdout", "stderr"}. The
client, its plugins and its session are the installed ones, unmodified: only
the interpreter's start is paid once instead of for every command.
"""

import io
import json
import sys

from openstackclient import shell


class Captured(io.TextIOBase):
    """A stream whose text can be taken away between two commands."""

    def __init__(self):
        self.text = io.StringIO()

    def write(self, text):
        return self.text.write(text)

    def writable(self):
        return True

    def take(self):
        text, self.text = self.text.getvalue(), io.StringIO()
        return text


def main():
    answers = sys.stdout
    out, err = Captured(), Captured()
    sys.stdout, sys.stderr = out, err
    app = None
    for line in sys.stdin:
        arguments = json.loads(line)
        try:
            if app is None:
                app = shell.OpenStackShell()
                code = app.run(arguments)
            else:
                code = app.run_subcommand(arguments)
        except SystemExit as e:  # how argparse refuses
            code = e.code
        answers.write(json.dumps({"code": code, "stdout": out.take(), "stderr": err.take()}) + "\n")
        answers.flush()


main()
