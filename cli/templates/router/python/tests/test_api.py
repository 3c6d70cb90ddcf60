import json
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from api import handle


class Api(unittest.TestCase):
    def test_a_greeting_speaks_the_language_asked_for(self):
        said = handle("GET", "/greetings/Zo%C3%AB?lang=fr")
        self.assertEqual(json.loads(said.body), {"name": "Zoë", "greeting": "Bonjour, Zoë!"})
        self.assertEqual(handle("GET", "/greetings/ana?lang=tlh").status, 404)

    def test_numbers_are_added_and_anything_else_is_refused(self):
        said = handle("POST", "/sum", b'{"numbers":[1,2.5]}')
        self.assertEqual(json.loads(said.body), {"count": 2, "sum": 3.5})
        for bad in (b"[1,2]", b'{"numbers":["1"]}', b"", b"\xff"):
            self.assertEqual(handle("POST", "/sum", bad).status, 400, bad)

    def test_paths_and_methods_that_are_not_there_are_said_to_be(self):
        self.assertEqual(handle("GET", "/elsewhere").status, 404)
        refused = handle("GET", "/sum")
        self.assertEqual((refused.status, refused.headers["allow"]), (405, "POST"))

    def test_every_answer_is_marked(self):
        for path in ("/", "/greetings/ana", "/elsewhere"):
            self.assertEqual(handle("GET", path).headers["x-served-by"], "{{name}}", path)
