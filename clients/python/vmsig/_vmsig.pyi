# SPDX-License-Identifier: Apache-2.0
"""What cffi makes of the public headers; its names are theirs."""

from typing import Any

ffi: Any
lib: Any
