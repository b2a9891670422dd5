"""Who begins what, and when: a steady evening with bursts, and one of every rare scene."""

from __future__ import annotations

from typing import TYPE_CHECKING, Iterator, Optional

from . import noise, scenes, studio
from .people import Account, Fan

if TYPE_CHECKING:
    from .evening import Evening

Scene = Iterator[int]

# How many frames a chat makes on average, from typing to the answers; the director plans with it.
FRAMES_PER_CHAT = 11
# Moments, as parts of the evening, when people come in numbers.
BURSTS = ((0.12, 0.16), (0.38, 0.43), (0.66, 0.70), (0.86, 0.88))


def begin(evening: "Evening") -> None:
    """Puts everyone in place: the director, each account's own life, and one of every rare scene at a fixed moment."""
    length = evening.plan.minutes * 60_000
    dice = evening.dice
    evening.start(direct(evening))
    for account in evening.accounts:
        evening.start(studio.heartbeat(evening, account), dice.below(20_000))
        evening.start(studio.counters(evening, account), dice.below(30_000))
        evening.start(studio.life_of_account(evening, account), dice.below(length // 4))
        evening.start(studio.reconnects(evening, account), length // 5 + dice.below(length // 5))
        evening.start(studio.mass_message(evening, account), dice.between(length // 10, length // 3))
    first = evening.accounts[0]
    evening.start(studio.stream(evening, first), length * 2 // 5)
    if len(evening.accounts) > 2:
        evening.start(studio.stream(evening, evening.accounts[2]), length * 13 // 20)
    opening = [
        # Enough at once to make the first fan high-value.
        lambda a, f: scenes.tip(evening, a, f, "both", cents=12_000),
        lambda a, f: scenes.tip(evening, a, f, "twice"),
        lambda a, f: scenes.tip(evening, a, f, "message"),
        lambda a, f: scenes.tip(evening, a, f, "notification"),
        lambda a, f: scenes.paid_message(evening, a, f, buys=True),
        lambda a, f: scenes.subscribe(evening, a, f, "new_subscriber"),
        lambda a, f: scenes.subscribe(evening, a, f, "returning_subscriber"),
        lambda a, f: scenes.renew(evening, a, f),
        lambda a, f: scenes.expire(evening, a, f),
        lambda a, f: scenes.story_tip(evening, a, f),
    ]
    for number, scene in enumerate(opening):
        fan = first.fans[number % len(first.fans)]
        evening.start(scene(first, fan), 20_000 + number * length // 14)
    for account in evening.accounts:
        for fan in [fan for fan in account.fans if fan.lists][:1]:
            evening.start(scenes.alone(fan, scenes.chat(evening, account, fan, turns=4)), length // 6)
    evening.start(noise.hostile(evening), length // 25)
    evening.start(noise.malformed(evening, first), length // 20)
    evening.start(noise.long_story(evening, first), length // 2)
    evening.start(noise.unknown_keys(evening), length // 15)


def direct(evening: "Evening") -> Scene:
    """Looks every half second how many frames are due and lets as many people begin something."""
    dice, plan = evening.dice, evening.plan
    length = plan.minutes * 60_000
    lead_ms = 40_000 * evening.pace
    # Frames that are still to come from what has begun, roughly.
    begun = 0.0
    choices = [
        (70, scenes.chat),
        (4, scenes.subscribe),
        (2, scenes.expire),
        (2, scenes.renew),
        (3, scenes.tip),
        (4, scenes.paid_message),
        (1, scenes.story_tip),
        (2, scenes.post_purchase),
        (2, scenes.other_notification),
        (3, scenes.like),
        (2, scenes.stray_delete),
    ]
    while True:
        wanted = plan.frames * _part_due((evening.now + lead_ms) / length)
        for _ in range(40):
            if evening.emitted + begun >= wanted:
                break
            account = dice.pick_early(evening.accounts)
            fan, scene = _someone(evening, account), dice.weighted(choices)
            if dice.chance(0.4):
                # Everybody shall have written once by the end.
                account = max(evening.accounts, key=lambda a: len(a.unseen))
                if account.unseen:
                    fan, scene = account.unseen.pop(), scenes.chat
            if fan is None or fan.busy:
                break
            evening.start(scenes.alone(fan, scene(evening, account, fan)), dice.below(2_000))
            begun += FRAMES_PER_CHAT if scene is scenes.chat else 2
        begun *= 0.985
        yield 500


def _part_due(time: float) -> float:
    """The part of all frames that is due at a part of the evening: steady, and four times as fast in a burst."""
    weight = time + sum(3 * (min(time, end) - begin) for begin, end in BURSTS if time > begin)
    return weight / (1 + sum(3 * (end - begin) for begin, end in BURSTS))


def _someone(evening: "Evening", account: Account) -> Optional[Fan]:
    """A fan who is free, of those who write most."""
    for _ in range(8):
        fan = evening.dice.pick_early(account.fans)
        if not fan.busy:
            return fan
    return None
