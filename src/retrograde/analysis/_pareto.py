from collections.abc import Mapping


def pareto_front(costs: Mapping[str, float], scores: Mapping[str, float], *, best: str = "highest") -> list[str]:
    """Finds those that no other beats: nothing as cheap is better, nothing as good is cheaper.

    Args:
        costs: What each costs, any unit; the less the better.
        scores: What each reaches.
        best: Whether the `"highest"` score is the best, or the `"lowest"`.

    Returns:
        Their names, from the cheapest on; of several that are alike in both, all.

    Raises:
        ValueError: If `best` is neither.

    Example:
        >>> pareto_front({"a": 1.0, "b": 2.0, "c": 3.0}, {"a": 0.5, "b": 0.4, "c": 0.9})
        ['a', 'c']
    """
    if best not in ("highest", "lowest"):
        raise ValueError(f"`pareto_front(best={best!r})` must be 'highest' or 'lowest'.")
    sign = 1 if best == "highest" else -1
    value = {name: (-costs[name], sign * scores[name]) for name in costs}

    def is_beaten(name: str) -> bool:
        mine = value[name]
        return any(all(x >= y for x, y in zip(other, mine, strict=True)) and other != mine for other in value.values())

    return sorted((name for name in value if not is_beaten(name)), key=lambda name: costs[name])
