#!/usr/bin/env python
"""Runs management commands of the example project.

The command line comes in; `python manage.py help` lists what there is. `make demo` and the documentation
use this file.
"""

from __future__ import annotations

import os
import sys

from django.core.management import execute_from_command_line

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "example_project.settings")
    execute_from_command_line(sys.argv)
