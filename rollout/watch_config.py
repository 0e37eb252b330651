"""The `watch:` section of a recipe."""

from pydantic import Field

from antiphon.settings import Settings


class WatchConfig(Settings):
    """When to be told that the reward may be gamed. Every number is a metric whatever the thresholds are.

    Alarms are events with examples; they stop nothing. Each threshold may be null: no such alarm.
    """

    window: int = Field(10, ge=2)
    """Updates over which numbers are averaged before they are judged. More: fewer false alarms, and later."""
    trusted: tuple[str, ...] = ()
    """Labels of components that ought to rise with the reward although they are not in it (weight 0): what
    you would measure success by, if it were cheap enough to train on."""
    trusted_fall: float | None = Field(0.5, gt=0.0)
    """A trusted component has fallen by so many standard deviations of its samples from its best window,
    while the reward is no lower than it was then."""
    length_correlation: float | None = Field(0.5, gt=0.0, le=1.0)
    """The reward follows the length so closely (either way), and lengths have moved by `length_change`."""
    length_change: float = Field(0.2, gt=0.0)
    """By what share completions must have become longer, or shorter, from one half of the window to the
    other. Length that is paid and does not change is no sign of gaming."""
    duplicates_in_batch: float | None = Field(0.9, gt=0.0, le=1.0)
    """So large a share of the completions was also given to another prompt. Raise it, or set null, where
    many prompts have the same right answer."""
    duplicates_in_group: float | None = Field(None, gt=0.0, le=1.0)
    """So large a share of the completions has a twin among those of its prompt. Null: a policy that knows the
    only right answer does that too; set it where answers ought to differ."""
    agreeing: tuple[str, ...] = ()
    """Labels of components that judge the same thing, such as two judges."""
    disagreement: float | None = Field(0.5, gt=0.0, le=1.0)
    """Two agreeing components order so large a share of the pairs oppositely; 0.5 is chance."""
    correlation_fall: float | None = Field(0.5, gt=0.0, le=2.0)
    """The correlation of two components is by so much below what it was in the first window."""
    constant_updates: int | None = Field(10, ge=1)
    """A component has had one and the same value everywhere for so many updates: it is broken, or has
    nothing left to say."""
    num_examples: int = Field(3, ge=1)
    """Samples told with an alarm."""
    num_characters: int = Field(400, ge=1)
    """Where their texts are cut."""
