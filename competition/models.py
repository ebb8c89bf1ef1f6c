"""Competitions.

Competition: a question put to several versions over one corpus. Entrant: a version in a competition.
Round: one turn: score, select, label, settle; where a target is troubleshot, prepare before and learn after.
Duel: two entrants in a round.
Exhibit: what is shown to people: in MAD one image on which the two entrants of a duel disagree; in gMAD a pair of
images, the attacker's best and worst of a level of the defender.
Target: the version that a troubleshooting competition (self-gMAD, self-MAD) is about; in each of its rounds it meets
ensembles of its own pruned variants, is fine-tuned on what people said, and meets new ones in the next.
Snapshot: the leaderboard at one time, from a named set of judgements; immutable. Standing: one line of it.
"""

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import F, Q
from django.urls import reverse

from accounts.models import Shared
from competition.querysets import CompetitionQuerySet, EntrantQuerySet, ExhibitQuerySet, RoundQuerySet, SnapshotQuerySet
from corpora.models import Corpus, Item, Taxonomy
from jobs.models import Job
from labeling.models import Campaign, Trial
from models_zoo.models import Version
from training.models import Edition, Run


class Kind(models.TextChoices):
    MAD = "mad", "MAD: classifiers"
    GMAD = "gmad", "gMAD: quality models"
    SELF_GMAD = "self_gmad", "self-gMAD: troubleshoot a quality model"
    SELF_MAD = "self_mad", "self-MAD: troubleshoot a classifier"


class Competition(Shared):
    """A question put to several versions over one corpus. Its settings are fixed once a round has begun."""

    name = models.CharField(max_length=120, unique=True)
    description = models.TextField(blank=True)
    kind = models.CharField(max_length=12, choices=Kind, default=Kind.MAD)
    corpus = models.ForeignKey(Corpus, models.PROTECT, related_name="competitions")
    taxonomy = models.ForeignKey(
        Taxonomy, models.PROTECT, null=True, blank=True, help_text="MAD: gives the distance between two predictions"
    )
    options = models.JSONField(default=dict, blank=True, help_text="Settings of its kind alone (Kind.Options)")
    k = models.PositiveIntegerField(
        default=30, validators=[MinValueValidator(1)], help_text="Images per pair of models"
    )
    reserve = models.PositiveIntegerField(default=30, help_text="Spare images per pair")
    threshold = models.FloatField(
        default=0.8,
        validators=[MinValueValidator(0.0), MaxValueValidator(1.0)],
        help_text="Both models must be at least this confident",
    )
    per_class_cap = models.PositiveIntegerField(
        default=3,
        validators=[MinValueValidator(1)],
        help_text="Images of one pair with the same prediction of one model",
    )
    duplicate_distance = models.PositiveSmallIntegerField(
        null=True,
        blank=True,
        default=6,
        help_text="Perceptual-hash bits below which two images count as one; empty: off",
    )
    control_size = models.PositiveIntegerField(default=30, help_text="Random images labelled beside the selected ones")
    overlap = models.PositiveSmallIntegerField(
        default=5, validators=[MinValueValidator(1)], help_text="People per exhibit"
    )
    judgement_budget = models.PositiveIntegerField(
        null=True, blank=True, help_text="Launching is refused when more judgements would be needed"
    )
    seed = models.PositiveBigIntegerField(default=0)
    campaign_options = models.JSONField(
        default=dict, blank=True, help_text="Texts, gold and repeat shares of campaigns"
    )

    objects = CompetitionQuerySet.as_manager()  # type: ignore[misc]

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("competition:detail", args=[self.pk])


class Entrant(models.Model):
    competition = models.ForeignKey(Competition, models.CASCADE, related_name="entrants")
    version = models.ForeignKey(Version, models.PROTECT, related_name="entrants")
    round = models.ForeignKey(
        "Round", models.PROTECT, null=True, blank=True, related_name="own_entrants",
        help_text="The only round it takes part in: a target or an ensemble; empty: all rounds",
    )  # fmt: skip
    number = models.PositiveSmallIntegerField(help_text="Order of entry; fixes who is first in a duel")
    created_at = models.DateTimeField(auto_now_add=True)

    objects = EntrantQuerySet.as_manager()

    class Meta:
        ordering = ["number"]
        constraints = [
            models.UniqueConstraint(fields=["competition", "version"], name="entrant_once"),
            models.UniqueConstraint(fields=["competition", "number"], name="entrant_number_once"),
        ]

    def __str__(self) -> str:
        return str(self.version)


class RoundState(models.TextChoices):
    PREPARING = "preparing", "Preparing: the target is pruned, ensembles are formed"
    SCORING = "scoring", "Scoring: models run over the corpus"
    SELECTING = "selecting", "Selecting: the largest disagreements are found"
    LABELLING = "labelling", "Labelling: people are asked"
    SETTLING = "settling", "Settling: verdicts become standings"
    COMPLETE = "complete", "Complete"
    LEARNING = "learning", "Learning: the target is fine-tuned"
    FAILED = "failed", "Failed: see the job"
    CANCELLED = "cancelled", "Cancelled"


class Round(models.Model):
    """One turn of a competition.

    ::

        scoring ──> selecting ──> labelling ──> settling ──> complete
         ^ ^ │          │ │        │ │ ^           │            │
         │ │ └─> failed <─┘        │ │ └─ a reserve is promoted ┘
         │ │ └─> cancelled <───────┘ └──────────┐  │            │
         │ └── retry (finished steps are kept)  v  v            v
         └───────── an entrant is added: its duels only ────────┘

    Where a target is troubleshot, ``preparing`` comes before ``scoring`` (and fails, is cancelled and retried like it),
    and ``complete ──> learning ──> complete`` may follow; ``learn_run`` says whether it has.

    Every move is a conditional UPDATE (competition.services.round_move).
    """

    competition = models.ForeignKey(Competition, models.PROTECT, related_name="rounds")
    number = models.PositiveSmallIntegerField()
    state = models.CharField(max_length=10, choices=RoundState, default=RoundState.SCORING)
    job = models.ForeignKey(Job, models.SET_NULL, null=True, related_name="+", help_text="What works on it now")
    campaign = models.ForeignKey(Campaign, models.PROTECT, null=True, related_name="rounds")
    error = models.TextField(blank=True)
    facts = models.JSONField(default=dict, help_text="What selection found beyond duels and exhibits, by kind")
    prepare_run = models.ForeignKey(
        Run, models.PROTECT, null=True, blank=True, related_name="+", help_text="Pruned the target into variants"
    )
    edition = models.ForeignKey(
        Edition, models.PROTECT, null=True, blank=True, related_name="+", help_text="Old and new labels to learn from"
    )
    learn_run = models.ForeignKey(
        Run, models.PROTECT, null=True, blank=True, related_name="+", help_text="Fine-tunes target and variants on it"
    )
    started_at = models.DateTimeField(auto_now_add=True)
    labelling_at = models.DateTimeField(null=True)
    completed_at = models.DateTimeField(null=True)
    changed_at = models.DateTimeField(
        null=True, help_text="When its verdicts last changed; settling catches up with it"
    )

    objects = RoundQuerySet.as_manager()

    class Meta:
        ordering = ["competition", "number"]
        constraints = [models.UniqueConstraint(fields=["competition", "number"], name="round_number_once")]

    def __str__(self) -> str:
        return f"{self.competition}, round {self.number}"


class Duel(models.Model):
    """Two entrants in a round, and why it has as many exhibits as it has. In gMAD the first attacks the second, and
    every two entrants have two duels."""

    round = models.ForeignKey(Round, models.CASCADE, related_name="duels")
    first = models.ForeignKey(Entrant, models.PROTECT, related_name="duels_first")
    second = models.ForeignKey(Entrant, models.PROTECT, related_name="duels_second")
    n_disagree = models.PositiveBigIntegerField(default=0, help_text="Images with different predictions")
    n_confident = models.PositiveBigIntegerField(default=0, help_text="… on which both are confident")
    n_selected = models.PositiveIntegerField(default=0, help_text="… accepted for labelling")
    n_reserve = models.PositiveIntegerField(default=0)
    shortage = models.CharField(max_length=300, blank=True, help_text="Why there are fewer than k, in words")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["round", "first", "second"], name="duel_once"),
            models.CheckConstraint(condition=~Q(first=F("second")), name="duel_of_two"),
        ]

    def __str__(self) -> str:
        return f"{self.first} against {self.second}"


class ExhibitRole(models.TextChoices):
    SELECTED = "selected", "Selected"
    RESERVE = "reserve", "In reserve"
    CONTROL = "control", "Control"


class Exhibit(models.Model):
    """One image, or one pair, shown to people for one duel (or for the control arm, where ``duel`` is empty).

    The same question is asked once: exhibits of several duels share one trial. In MAD a question is a picture with two
    classes, and a control image with more than two distinct predictions has several exhibits. In gMAD it is a pair:
    ``item`` is what the attacker finds best in a level of the defender, ``second_item`` what it finds worst.
    """

    round = models.ForeignKey(Round, models.PROTECT, related_name="exhibits")
    duel = models.ForeignKey(Duel, models.PROTECT, null=True, related_name="exhibits")
    trial = models.ForeignKey(Trial, models.PROTECT, null=True, related_name="exhibits")
    second_trial = models.ForeignKey(
        Trial, models.PROTECT, null=True, related_name="second_exhibits",
        help_text="self-gMAD: the images of a pair are rated one by one; this trial is about second_item",
    )  # fmt: skip
    item = models.ForeignKey(Item, models.PROTECT, related_name="exhibits")
    second_item = models.ForeignKey(Item, models.PROTECT, null=True, related_name="+")
    level = models.PositiveSmallIntegerField(null=True, help_text="gMAD: level of the defender, from 1 (worst)")
    role = models.CharField(max_length=8, choices=ExhibitRole)
    rank = models.PositiveIntegerField(help_text="Order of selection within its duel, from 1; reserve goes on counting")
    class_first = models.PositiveIntegerField(null=True)
    class_second = models.PositiveIntegerField(null=True)
    confidence_first = models.FloatField(null=True)
    confidence_second = models.FloatField(null=True)
    distance = models.FloatField(null=True)
    predictions = models.JSONField(
        default=dict,
        help_text="MAD control: {entrant id: class index}; gMAD: {entrant id: [score of item, score of second_item]}",
    )
    preference = models.FloatField(
        null=True, help_text="gMAD: what people said, -100 … 100; above zero where item is better, as the attacker says"
    )
    preference_low = models.FloatField(null=True, help_text="self-gMAD: 95 % interval of the preference")
    preference_high = models.FloatField(null=True)
    right_first = models.BooleanField(null=True, help_text="The picture holds class_first; empty while undecided")
    right_second = models.BooleanField(null=True, help_text="The picture holds class_second; empty while undecided")
    dropped = models.BooleanField(default=False, help_text="People could not label it; a reserve took its place")

    objects = ExhibitQuerySet.as_manager()

    class Meta:
        ordering = ["duel", "rank"]
        constraints = [
            models.UniqueConstraint(fields=["duel", "item"], condition=Q(level=None), name="exhibit_once_per_duel"),
            models.UniqueConstraint(
                fields=["duel", "level", "rank"], condition=~Q(level=None), name="exhibit_once_per_cell"
            ),
        ]
        indexes = [models.Index(fields=["round", "role"])]

    def __str__(self) -> str:
        return f"Exhibit {self.rank} of {self.duel or 'the control arm'}"


class Snapshot(models.Model):
    """The leaderboard at one time; immutable."""

    competition = models.ForeignKey(Competition, models.PROTECT, related_name="snapshots")
    round = models.ForeignKey(Round, models.PROTECT, related_name="snapshots")
    number = models.PositiveIntegerField()
    created_at = models.DateTimeField(auto_now_add=True)
    replicates = models.PositiveIntegerField()
    seed = models.PositiveBigIntegerField()
    n_exhibits = models.PositiveIntegerField(help_text="Exhibits with a verdict that it rests on")
    n_judgements = models.PositiveIntegerField()
    n_open = models.PositiveIntegerField(default=0, help_text="Exhibits still without a verdict; 0: not an interim one")
    excluded_people = models.JSONField(default=list, help_text="Ids of people whose judgements were left out")
    counts_everyone = models.BooleanField(
        default=False, help_text="The other view: the judgements of excluded people count as well"
    )
    digest = models.CharField(max_length=64, help_text="SHA-256 of the judgements it rests on and the parameters")
    matrices = models.JSONField(help_text="Entrants, names, and the m×m tables of the kind")
    k_curve = models.JSONField(default=list, help_text='[{"k", "spearman", "scores"}, …]')
    control = models.JSONField(default=dict, help_text="Accuracy per entrant on the control arm with its interval")
    agreement = models.JSONField(default=dict, help_text="Krippendorff's alpha with its interval, percent agreement")

    objects = SnapshotQuerySet.as_manager()

    class Meta:
        ordering = ["-number"]
        constraints = [models.UniqueConstraint(fields=["competition", "number"], name="snapshot_number_once")]

    def __str__(self) -> str:
        return f"{self.competition}, snapshot {self.number}"


class Standing(models.Model):
    """One line of a leaderboard snapshot."""

    snapshot = models.ForeignKey(Snapshot, models.CASCADE, related_name="standings")
    entrant = models.ForeignKey(Entrant, models.PROTECT, related_name="standings")
    measure = models.CharField(max_length=20, default="mad", help_text="What is ranked: a measure of the kind")
    score = models.FloatField(help_text="MAD: entry of the Perron vector, all entrants sum to 1; gMAD: Thurstone scale")
    low = models.FloatField(null=True, help_text="95 % bootstrap interval; none from a single person")
    high = models.FloatField(null=True)
    rank = models.PositiveSmallIntegerField()
    rank_best = models.PositiveSmallIntegerField()
    rank_worst = models.PositiveSmallIntegerField()
    n_images = models.PositiveIntegerField()

    class Meta:
        ordering = ["snapshot", "measure", "rank"]
        constraints = [models.UniqueConstraint(fields=["snapshot", "entrant", "measure"], name="standing_once")]

    def __str__(self) -> str:
        return f"{self.rank}. {self.entrant}"
