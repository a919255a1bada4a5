from retrograde.cli._errors import Failure
from retrograde.cli._print import Json, print_json, print_table


def doctor(json: Json = False) -> None:
    """Check this installation in half a minute: versions, mathematics, data, folders, and a short training."""
    from retrograde import selfcheck

    checks = selfcheck.check_installation()
    if json:
        print_json({"ok": all(check.ok for check in checks), "checks": [check.summary() for check in checks]})
    else:
        rows = [["ok" if check.ok else "FAILED", check.name, check.detail] for check in checks]
        print_table(rows, ["", "check", ""])
    if failed := [check.name for check in checks if not check.ok]:
        raise Failure(f"retrograde: {len(failed)} of {len(checks)} checks failed: {', '.join(failed)}")
