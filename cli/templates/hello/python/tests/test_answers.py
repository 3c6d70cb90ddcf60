import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from answers import answer


class Answers(unittest.TestCase):
    def test_it_says_hello(self):
        self.assertEqual(answer("/"), (200, "Hello from {{name}}!\n"))

    def test_it_knows_no_other_path(self):
        self.assertEqual(answer("/elsewhere")[0], 404)
