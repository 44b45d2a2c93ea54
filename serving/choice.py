"""Who answers a request, and why: what a decision comes to."""

from dataclasses import dataclass

from catalogue import Learnware
from retriever import Ranked
from serving.engine import LearnwareUnavailable
from serving.parts import GatewayParts
from serving.route_wire import Cause, Kind
from serving.wire import header_safe
from specification.errors import CatalogueError, DockError, EncoderError, Incomparable, NotFound


@dataclass(frozen=True)
class Choice:
    """Who answers: ``model`` is the engine's name of it, ``learnware`` the id, empty for the base model.

    ``version`` is the learnware's, as the catalogue counts. ``fit`` and ``p_value`` are those of the decision,
    ``seconds`` what deciding took, and ``candidates`` the best learnwares it looked at, best first.
    """

    model: str
    kind: Kind
    reason: str
    base_model: str
    learnware: str = ""
    version: int | None = None
    fit: float | None = None
    p_value: float | None = None
    cause: Cause = ""
    seconds: float = 0.0
    candidates: tuple[Ranked, ...] = ()

    def headers(self) -> dict[str, str]:
        """Returns the decision as response headers."""
        return {
            "x-slmdock-model": header_safe(self.model),
            "x-slmdock-learnware": self.learnware,
            "x-slmdock-version": "" if self.version is None else str(self.version),
            "x-slmdock-fit": "" if self.fit is None else f"{self.fit:.4f}",
            "x-slmdock-p-value": "" if self.p_value is None else f"{self.p_value:.4f}",
            "x-slmdock-decision": self.kind,
            "x-slmdock-cause": self.cause,
            "x-slmdock-reason": header_safe(self.reason),
            "x-slmdock-decision-ms": f"{1000 * self.seconds:.3f}",
        }


def of_learnware(
    learnware: Learnware, kind: Kind, reason: str, fit: float | None = None, p_value: float | None = None
) -> Choice:
    """Returns a learnware as the one who answers."""
    return Choice(
        learnware.engine_name, kind, reason, learnware.base_model, learnware.id, learnware.version, fit, p_value
    )


def none_fits(parts: GatewayParts, reason: str, fit: float | None = None, p_value: float | None = None) -> Choice:
    """Returns the base model as the one who answers since no learnware fits."""
    base = parts.engine.base_model
    return Choice(base, "none-fits", reason, base, fit=fit, p_value=p_value, cause="none-fits")


def fall_back(parts: GatewayParts, reason: str, cause: Cause = "adapter") -> Choice:
    """Returns the base model as the one who answers since something went wrong."""
    base = parts.engine.base_model
    return Choice(base, "fallback", f"{reason}; the base model answers", base, cause=cause)


def cause_of(error: DockError) -> Cause:
    """Returns the word for an error that came of choosing."""
    if isinstance(error, EncoderError | Incomparable):
        return "encoder"
    if isinstance(error, CatalogueError | NotFound):
        return "catalogue"
    return "adapter" if isinstance(error, LearnwareUnavailable) else "failure"
