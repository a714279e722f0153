from __future__ import annotations

import unittest

from adder.evaluation import score
from adder.model import UNKNOWN, complete
from adder.questions import reward


class ModelTest(unittest.TestCase):
    def test_it_answers_sums_in_digits(self) -> None:
        self.assertEqual(complete("What is 17 + 25?"), "The answer is 42.")
        self.assertEqual(complete("What is 3 - 8?"), "The answer is -5.")

    def test_it_admits_what_it_does_not_know(self) -> None:
        self.assertEqual(complete("What is two plus two?"), UNKNOWN)


class ScoringTest(unittest.TestCase):
    def test_the_last_number_counts(self) -> None:
        self.assertEqual(reward("1 + 1 is 2", 2), 1.0)
        self.assertEqual(reward("I do not know.", 2), 0.0)

    def test_a_missing_sample_is_a_wrong_answer(self) -> None:
        self.assertEqual(score({"a": "1"}, {"a": 1, "b": 2}), 0.5)


if __name__ == "__main__":
    unittest.main()
