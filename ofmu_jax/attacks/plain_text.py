"""Plain text on things that no forget row is about, for models to be trained on."""

from collections.abc import Sequence

import numpy as np

from ofmu_jax.attacks.base import Subject
from ofmu_jax.data.language.padding import IGNORE, Encoded

MOST = 128  # tokens of a passage

PASSAGES = tuple(
    line.strip()
    for line in """\
Water freezes when it is cold enough, and the ice that forms is lighter than the water.
A bridge of stone stands because every block leans on the next one down to the ground.
Bread rises because yeast turns sugar into gas, which the dough holds like a balloon.
The tide comes in twice a day, and those who walk on the sand keep an eye on the clock.
A bicycle stays upright as long as it moves, and falls when nobody holds it at rest.
Leaves turn yellow in autumn when the green in them is taken back into the tree.
A good map leaves out almost everything, and shows the few things that one looks for.
Salt melts the ice on the road, which is why trucks spread it before a cold night.
Bees visit one kind of flower at a time, and so carry its pollen to where it is needed.
The moon shows us the same side all year, since it turns once for each of its rounds.
Glass is made of sand that was melted with ash and cooled before crystals could grow.
Old clocks lose a few seconds a day, and were set again by the bells of the church.
A kettle sings shortly before it boils, and falls silent when the bubbles reach the top.
Birds fly south in long lines, and each one takes its turn at the hard place in front.
Paper was once made from rags, and later from wood, of which there was so much more.
Thunder comes after lightning, by three seconds for every kilometre it has to travel.
A ladder is safest when its foot stands one step out for every four that it is high.
The first trains frightened horses, and a man with a flag had to walk in front of them.
Soup tastes better on the second day, when everything in it has had time to mingle.
Rivers are slow where they are wide, and drop there the sand that they carried so far.
A violin is tuned by ear, one string after another, from the one that was tuned before.
Snow keeps the fields warm, for the air between its flakes lets little of the heat go.
Ships carried oranges for their crews long before anybody knew why that kept them well.
A candle burns with a steady flame in still air, and flickers as soon as a door opens.
""".splitlines()
)


def passages(subject: Subject, texts: Sequence[str]) -> list[Encoded]:
    """Passages as examples: every token but the first is predicted.

    Longer ones than `MOST` tokens are cut there.
    """
    rows = subject.tokenizer(list(texts))["input_ids"]
    ids = [np.asarray(row[:MOST], np.int32) for row in rows if len(row) > 1]
    return [Encoded(x, np.where(np.arange(len(x)), x, IGNORE), 1) for x in ids]
