"""Writes conversations in which an order in plain words is answered with an order slip in a fixed
format, for `configs/assistant.toml`: train.jsonl to learn from, and test.jsonl, other orders, whose
answers `eval tasks` compares letter by letter.

    python3 data/examples/orders.py corpora/orders
"""

import json
import random
import sys
from pathlib import Path

NUMBERS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
COLOURS = ["red", "blue", "green", "white", "black", "yellow", "grey", "brown"]
THINGS = {
    "mug": "mugs", "lamp": "lamps", "chair": "chairs", "shelf": "shelves", "box": "boxes",
    "towel": "towels", "knife": "knives", "plate": "plates", "brush": "brushes", "clock": "clocks",
}
CITIES = ["Oslo", "Lyon", "Porto", "Graz", "Turku", "Leeds", "Gdansk", "Bergen", "Ghent", "Malaga"]
DAYS = {
    "Monday": "Mon", "Tuesday": "Tue", "Wednesday": "Wed", "Thursday": "Thu", "Friday": "Fri",
}
QUESTIONS = [
    "I would like {items}, delivered to {city} on {day}.",
    "Please send {items} to {city}. {day} would be best.",
    "We need {items} in {city} by {day}, thank you!",
    "Can you bring {items} to our shop in {city} on {day}?",
    "Hello, this is the {city} office. We are out of {things}: {items}, please, for {day}.",
    "For {day}: {items}. The address is in {city}.",
]
SYSTEM = "Write each order as a slip: COUNTx COLOUR THING; ... | CITY | DAY"


def item(rng):
    count, colour = rng.randint(1, 9), rng.choice(COLOURS)
    one, many = rng.choice(list(THINGS.items()))
    number = NUMBERS[count - 1] if rng.random() < 0.5 else str(count)
    if count == 1 and rng.random() < 0.5:
        number = "a"
    return f"{number} {colour} {one if count == 1 else many}", f"{count}x {colour} {one}", many


def order(rng):
    items = [item(rng) for _ in range(rng.choice([1, 2, 2, 3]))]
    said = [text for text, _, _ in items]
    listed = said[0] if len(said) == 1 else ", ".join(said[:-1]) + " and " + said[-1]
    city, day = rng.choice(CITIES), rng.choice(list(DAYS))
    question = rng.choice(QUESTIONS).format(
        items=listed, things=items[0][2], city=city, day=day
    )
    slip = "; ".join(slip for _, slip, _ in items)
    return question, f"{slip} | {city} | {DAYS[day]}"


def messages(question):
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]


def main():
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "corpora/orders")
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(7)
    orders = {}
    while len(orders) < 700:
        question, answer = order(rng)
        orders[question] = answer
    orders = list(orders.items())
    with open(folder / "train.jsonl", "w", encoding="utf-8") as out:
        for question, answer in orders[100:]:
            said = messages(question) + [{"role": "assistant", "content": answer}]
            print(json.dumps({"messages": said}), file=out)
    with open(folder / "test.jsonl", "w", encoding="utf-8") as out:
        for question, answer in orders[:100]:
            print(json.dumps({"messages": messages(question), "answer": answer}), file=out)


main()
