"""The ledger: what the clients were told of each transfer, and what the server has of it in the end."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from asyncdb.testing import DatabaseServer

ACCOUNTS = 12
BALANCE = 500


@dataclass
class Transfer:
    key: str
    source: int
    target: int
    amount: int
    outcome: str = "left"
    """``done``, ``refused``, ``failed`` (an error that says that nothing was committed), ``in doubt``, ``left``."""

    @property
    def params(self) -> dict[str, str | int]:
        return {"token": self.key, "source": self.source, "target": self.target, "amount": self.amount}


class Ledger:
    """Asked and judged by the server's own client program."""

    def __init__(self, server: DatabaseServer, database: str) -> None:
        self._server, self._database = server, database
        self._asked: dict[str, Transfer] = {}
        self.figures: dict[str, Any] = {}

    def fill(self) -> None:
        rows = ", ".join(f"({n}, {BALANCE})" for n in range(1, ACCOUNTS + 1))
        self._server.execute(f"INSERT INTO site_account (id, balance) VALUES {rows}", database=self._database)

    def next_one(self) -> Transfer:
        source, target = random.sample(range(1, ACCOUNTS + 1), 2)
        made = Transfer(f"t{len(self._asked)}", source, target, random.choice([1, 20, 100, 400]))
        self._asked[made.key] = made
        return made

    def judge(self, wrong: Callable[[str], None]) -> None:
        """Each transfer that answered 200 is there once, each refused or failed one is not, and the sums agree."""
        rows = self._server.execute(
            'SELECT "key", source_id, target_id, amount FROM site_transfer'.replace('"', self._quote),
            database=self._database,
        )
        there = Counter(str(row[0]) for row in rows)
        balances = Counter(dict.fromkeys(range(1, ACCOUNTS + 1), BALANCE))
        for key, source, target, amount in rows:
            balances[int(source or 0)] -= int(amount or 0)
            balances[int(target or 0)] += int(amount or 0)
            if str(key) not in self._asked:
                wrong(f"ledger: {key} is there and nobody asked for it")
        for key, transfer in self._asked.items():
            if transfer.outcome == "done" and there[key] != 1:
                wrong(f"ledger: {transfer} is there {there[key]} times")
            if transfer.outcome in {"refused", "failed"} and there[key]:
                wrong(f"ledger: {transfer} is there")
        accounts = self._server.execute("SELECT id, balance FROM site_account", database=self._database)
        found = {int(number or 0): int(balance or 0) for number, balance in accounts}
        if found != dict(balances):
            wrong(f"ledger: the accounts have {found}; by the transfers that are there {dict(balances)}")
        if sum(found.values()) != ACCOUNTS * BALANCE:
            wrong(f"ledger: the sum is {sum(found.values())}, and was {ACCOUNTS * BALANCE}")
        told = Counter(transfer.outcome for transfer in self._asked.values())
        doubtful = [transfer.key for transfer in self._asked.values() if transfer.outcome in {"in doubt", "left"}]
        self.figures = {"transfers": dict(told), "doubtful ones that are there": sum(there[key] for key in doubtful)}

    @property
    def _quote(self) -> str:
        return "`" if self._server.family == "mysql" else '"'
