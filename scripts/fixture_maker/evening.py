"""An evening, played: a clock, the people, and who does what next. It yields the lines of a recording in order.

Everyone who acts is a generator that yields how many milliseconds to wait; the clock jumps from one to the next, so memory is
bounded by the people, not by the length of the recording.
"""

from __future__ import annotations

import heapq
import json
from collections import deque
from datetime import datetime, timedelta, timezone
from typing import Any, Deque, Dict, Iterator, List, NamedTuple, Optional, Tuple

from . import director, people
from .dice import Dice

# Ids grow with time from here, so recordings of different evenings share none.
ID_EPOCH = datetime(2026, 7, 23, tzinfo=timezone.utc)
FIRST_MESSAGE = 6_400_000_000_001
FIRST_NOTIFICATION = 7_001
# How much of the past a reconnect may bring again.
OVERLAP_FRAMES = 64

Actor = Iterator[int]


class Plan(NamedTuple):
    """What a recording is made from. The same plan always makes the same lines."""

    frames: int
    accounts: int
    fans: int
    minutes: int
    seed: int
    t0: datetime


class Evening:
    def __init__(self, plan: Plan):
        self.plan = plan
        self.dice = Dice(f"evening {plan.seed}")
        self.accounts = people.cast(plan.accounts, plan.fans, self.dice)
        self.now = 0
        self.emitted = 0
        # Chats take minutes; where more frames are wanted than people can type, they type faster.
        self.pace = min(1.0, plan.minutes * 60 * plan.fans / max(1, plan.frames) / 20)
        self._actors: List[Tuple[int, int, Actor]] = []
        self._outbox: List[Tuple[int, int, int, str]] = []
        self._sequence = 0
        self._recent: Dict[int, Deque[Tuple[int, str]]] = {a.id: deque(maxlen=OVERLAP_FRAMES) for a in self.accounts}
        self._last_message = 0
        self._last_notification = 0

    # For the scenes.

    def start(self, actor: Actor, after_ms: int = 0) -> None:
        heapq.heappush(self._actors, (self.now + max(0, after_ms), self._tick(), actor))

    def emit(self, account: people.Account, frame: Dict[str, Any], delay_ms: int = 0) -> None:
        """Sends a frame: it arrives a moment later, or `delay_ms` after that."""
        self.emit_text(account, self._encode(frame), delay_ms)

    def emit_text(self, account: people.Account, frame: str, delay_ms: int = 0) -> None:
        """Sends JSON as it is, whether the shape makes sense or not."""
        arrives = self.now + self.dice.between(20, 250) + delay_ms
        heapq.heappush(self._outbox, (arrives, self._tick(), account.id, frame))
        self.emitted += 1

    def emit_garbage(self, account: people.Account, text: str) -> None:
        """Sends what is no JSON: in a recording it stands as a JSON string."""
        self.emit_text(account, json.dumps(text))

    def repeat_recent(self, account: people.Account, window_ms: int) -> None:
        """Sends again what arrived last, as a new connection does that was opened before the old one closed."""
        for arrived, frame in list(self._recent[account.id]):
            if arrived >= self.now - window_ms:
                heapq.heappush(self._outbox, (self.now + 400, self._tick(), account.id, frame))
                self.emitted += 1

    def pause(self, low_ms: int, high_ms: int) -> int:
        """How long a person takes, at the pace of this evening."""
        return max(1, int(self.dice.between(low_ms, high_ms) * self.pace))

    def stamp(self, ago_ms: int = 0) -> str:
        """The source's time: whole seconds, with offset."""
        return self.time(ago_ms).strftime("%Y-%m-%dT%H:%M:%S+00:00")

    def time(self, ago_ms: int = 0) -> datetime:
        return self.plan.t0 + timedelta(milliseconds=self.now - ago_ms)

    def unix(self) -> int:
        return int(self.time().timestamp())

    def message_id(self) -> int:
        """Grows with time, about a hundred a second."""
        self._last_message = max(self._last_message + 1, FIRST_MESSAGE + self._since_epoch_ms() // 10)
        return self._last_message

    def notification_id(self) -> str:
        """Grows with time; now and then the source says "0", which names nothing."""
        self._last_notification = max(self._last_notification + 1, FIRST_NOTIFICATION + self._since_epoch_ms() // 100)
        return "0" if self.dice.chance(0.03) else str(self._last_notification)

    # The clock.

    def lines(self) -> Iterator[str]:
        """The recording, line by line, exactly `plan.frames` of them."""
        director.begin(self)
        written = 0
        while self._actors:
            at, _, actor = heapq.heappop(self._actors)
            # Nobody can send into the past any more, so what arrives before `at` is final.
            while self._outbox and self._outbox[0][0] < at:
                arrives, _, account, frame = heapq.heappop(self._outbox)
                self._recent[account].append((arrives, frame))
                yield self._line(arrives, account, frame, written == 0)
                written += 1
                if written == self.plan.frames:
                    return
            self.now = at
            wait: Optional[int] = next(actor, None)
            if wait is not None:
                self.start(actor, wait)

    def _line(self, arrives: int, account: int, frame: str, first: bool) -> str:
        t0 = self.plan.t0.strftime('"t0":"%Y-%m-%dT%H:%M:%S.000Z",') if first else ""
        return f'{{{t0}"t_ms":{arrives},"account":"{account}","frame":{frame}}}\n'

    def _encode(self, frame: Dict[str, Any]) -> str:
        """Most frames come as UTF-8; some escape what is not ASCII, and some the slashes, as PHP does."""
        text = json.dumps(frame, separators=(",", ":"), ensure_ascii=self.dice.chance(0.1))
        return text.replace("/", "\\/") if self.dice.chance(0.03) else text

    def _since_epoch_ms(self) -> int:
        return (self.time() - ID_EPOCH) // timedelta(milliseconds=1)

    def _tick(self) -> int:
        self._sequence += 1
        return self._sequence
