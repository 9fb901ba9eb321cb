# SPDX-License-Identifier: Apache-2.0

"""Runs the tests of magnum-tempest-plugin as they are installed.

It takes the directory of tempest.conf. The plugin logs in to Nova to make a
keypair unless the keypair's name is empty, and here is no Nova; so the name is
one that counts as empty when it is asked for its truth. And it looks at a
cluster every ten seconds, which is too rarely for clusters that take one.
"""

import logging
import os
import sys
import unittest

os.environ["TEMPEST_CONFIG_DIR"] = sys.argv[1]

from magnum_tempest_plugin.common import config, utils  # noqa: E402


class WithoutNova(str):
    def __bool__(self):
        return False


config.Config.set_keypair_name = classmethod(
    lambda cls, _: setattr(cls, "keypair_name", WithoutNova("key")))

wait = utils.wait_for_condition
utils.wait_for_condition = lambda condition, interval=1, timeout=40: wait(condition, interval / 20, timeout)

logging.disable(logging.WARNING)
suite = unittest.defaultTestLoader.discover(
    os.path.join(os.path.dirname(config.__file__), "../tests/api/v1"), top_level_dir=os.path.join(os.path.dirname(config.__file__), "../.."))
result = unittest.TextTestRunner(verbosity=2).run(suite)
sys.exit(not result.wasSuccessful())
