# SPDX-License-Identifier: Apache-2.0
"""A kernel that says nothing of its types: as if it had been built without them."""

from vmlab import Operator, number


def erase(broker, holder):
    """Overwrites the word by which they are found (BTF's magic number) in the guest's memory."""
    start = holder.ctl("symbols", "vm1", "__start_BTF").decode().split()[0]
    page = holder.json("translate", "vm1", f"0x{start}")
    operator = Operator(broker)
    operator.must("acquire")
    operator.must("write", hex(number(page["gpa"])), "00" * 4)
    operator.must("release")
