"""Recipes: named objectives, side by side. Read top to bottom, or start one and change its slots.

    objective = recipes.dapo().with_(selection=TopEntropy(0.2)).adding(regularizers=EntropyBonus(0.001))

Everything that a recipe does not mention is as in `Objective`.
"""

import ast
import difflib
import inspect
import math
from collections.abc import Callable, Collection
from dataclasses import fields, is_dataclass, replace
from typing import Any, Literal

from isentrope.policy.advantage_scaling import ScaledByCertainty
from isentrope.policy.advantages import BatchWhitened, GroupCentered, GroupNormalized, LeaveOneOut, no_advantage
from isentrope.policy.aggregation import SequenceSumOver, sequence_mean, sequence_sum, token_mean
from isentrope.policy.anchored_entropy import AnchoredPeakEntropy
from isentrope.policy.conditional_advantage import ConditionalAdvantage
from isentrope.policy.controllers import (
    Cosine,
    DeadBand,
    DualVariable,
    FractionOfInitial,
    Linear,
    Number,
    ProportionalIntegral,
)
from isentrope.policy.difficulty_entropy import BelowPivot, DifficultyEntropyBonus
from isentrope.policy.difficulty_kl import DifficultyKL
from isentrope.policy.difficulty_reward import HierarchicalEntropyReward
from isentrope.policy.discriminator_clip import BatchDiscriminatorClip, VocabularyDiscriminatorClip
from isentrope.policy.distillation import (
    ImportantTokens,
    JensenShannon,
    Overconfidence,
    SoftOr,
    TeacherDivergence,
    Uncertainty,
    forward_kl,
    reverse_kl,
)
from isentrope.policy.entropy_activation import EntropyActivation, RescaledByActivation
from isentrope.policy.entropy_aware_advantage import EntropyAwareAdvantage
from isentrope.policy.entropy_change_weight import EntropyChangeWeight
from isentrope.policy.entropy_minimization import TemperedEntropy
from isentrope.policy.entropy_ratio import EntropyRatioGate
from isentrope.policy.entropy_shares import ResponseEntropyShares, TokenEntropyShares
from isentrope.policy.exploration_bonus import ExplorationBonus
from isentrope.policy.filters import DropUniformGroups
from isentrope.policy.forking_band import ForkingEntropyBand, OnSelected
from isentrope.policy.forking_tokens import ForkingTokens
from isentrope.policy.gradient_preserving import ClippedWeight, GradientPreservingClip
from isentrope.policy.implicit_actor_critic import ImplicitActorCritic, LogRatio
from isentrope.policy.mean_entropy_band import MeanEntropyBand
from isentrope.policy.normal_scores import NormalScores
from isentrope.policy.objective import Objective
from isentrope.policy.phase_entropy import PhaseEntropyPenalty
from isentrope.policy.planning_tokens import PlanningCredit
from isentrope.policy.plausible_entropy import ClampedEntropyBonus
from isentrope.policy.quantile_baseline import QuantileBaseline
from isentrope.policy.regularizers import EntropyBonus, HighProbabilityAdvantage, KLPenalty, LogRatioPenalty
from isentrope.policy.replay import KeepVariedGroups, Replay, ToolCallBonus
from isentrope.policy.rewards import FormatBonus, LengthTrapezoid, OverlongPenalty
from isentrope.policy.rollout import PromptTemplates, RolloutPlan, Tempered, Until
from isentrope.policy.selection import TopEntropy
from isentrope.policy.self_supervision import MajorityVote, NegativeEntropy
from isentrope.policy.sign_filter import EqualPrompts, OneSignedRewards, SignFilter
from isentrope.policy.step_modulation import StepModulation
from isentrope.policy.surrogates import ClippedRatio, SequenceRatio, UnclippedRatio, no_surrogate
from isentrope.policy.tempered_gradient import Distance, Switch, TemperedGradient
from isentrope.policy.tempered_groups import ImitateTempered, TemperedGroups, failed_when_tempered
from isentrope.policy.templates import SYMBOLS, Template
from isentrope.policy.tool_branching import ToolBranching
from isentrope.policy.tree_rollout import TreeRollout
from isentrope.policy.turn_entropy import PhaseWeight, TurnEntropySmoothing
from isentrope.policy.weights import CovarianceBetween, DropRandom, KeepOnly, TopCovariance
from isentrope.policy.window_entropy import UncertainWindows


def grpo(epsilon: float = 0.2, kl_coefficient: float = 0.0) -> Objective:
    """Group relative policy optimisation (DeepSeekMath, arXiv 2402.03300).

    Rewards standardised within the group, PPO's clip, mean over tokens and then over responses. The paper's KL term
    (``kl_coefficient=0.04``) is off by default, as in today's trainers.
    """
    return Objective(
        name="grpo",
        advantage=GroupNormalized(),
        surrogate=ClippedRatio(epsilon, epsilon),
        aggregation=sequence_mean,
        regularizers=(KLPenalty(kl_coefficient),) if kl_coefficient else (),
        papers=("grpo",),
    )


def dr_grpo(epsilon: float = 0.2, length: int | None = None) -> Objective:
    """GRPO without its length and difficulty biases (arXiv 2503.20783): centred rewards, sums over a constant length."""
    return Objective(
        name="dr_grpo",
        advantage=GroupCentered(),
        surrogate=ClippedRatio(epsilon, epsilon),
        aggregation=SequenceSumOver(length),
        papers=("dr-grpo",),
    )


def dapo(
    low: float = 0.2, high: float = 0.28, maximum_length: int | None = None, cache: int | None = None
) -> Objective:
    """Decoupled clip and dynamic sampling (arXiv 2503.14476).

    A higher upper clip, the mean over all tokens, no KL, and groups of equal rewards dropped. The soft overlong penalty
    is on if ``maximum_length`` is given; ``cache`` is then a fifth of it, as in the paper, unless given too.
    """
    overlong = (
        () if maximum_length is None else (OverlongPenalty(maximum_length, cache or max(1, maximum_length // 5)),)
    )
    return Objective(
        name="dapo",
        reward=overlong,
        advantage=GroupNormalized(),
        row_filter=(DropUniformGroups(),),
        surrogate=ClippedRatio(low, high),
        aggregation=token_mean,
        papers=("dapo",),
    )


def rloo(kl_coefficient: float = 0.0) -> Objective:
    """REINFORCE with a leave-one-out baseline (arXiv 2402.14740): no clip, whole responses as actions."""
    return Objective(
        name="rloo",
        advantage=LeaveOneOut(),
        surrogate=UnclippedRatio(),
        aggregation=sequence_sum,
        regularizers=(KLPenalty(kl_coefficient, "k2"),) if kl_coefficient else (),
        papers=("rloo",),
    )


def reinforce_plus_plus(epsilon: float = 0.2, kl_coefficient: float = 0.0, group_baseline: bool = False) -> Objective:
    """REINFORCE++ (arXiv 2501.03262): no critic, KL inside the reward, advantages whitened over the batch's tokens."""
    return Objective(
        name="reinforce_plus_plus",
        advantage=BatchWhitened(kl_coefficient, group_baseline=group_baseline),
        surrogate=ClippedRatio(epsilon, epsilon),
        aggregation=token_mean,
        papers=("reinforce-plus-plus",),
    )


def gspo(low: float = 3e-4, high: float = 4e-4) -> Objective:
    """Group sequence policy optimisation (arXiv 2507.18071): one importance ratio a response."""
    return Objective(
        name="gspo",
        advantage=GroupNormalized(),
        surrogate=SequenceRatio(low, high),
        aggregation=sequence_mean,
        papers=("gspo",),
    )


def entropy_bonus(coefficient: Number = 0.001) -> Objective:
    """GRPO with a bonus on the policy's entropy: the baseline of arXiv 2505.22617; a number or a controller."""
    return grpo().adding(regularizers=EntropyBonus(coefficient)).with_(name="entropy_bonus")


def clip_cov(fraction: float = 2e-4, low: float = 1.0, high: float = 5.0) -> Objective:
    """Clip-Cov (arXiv 2505.22617): a few random tokens of high covariance get no gradient.

    Mean over tokens, a PPO clip so wide (±1) that it hardly acts, groups of equal rewards dropped. ``low`` and ``high``
    bound the covariance of the candidates; on small batches ``fraction`` must be larger to take more than one token.
    """
    return Objective(
        name="clip_cov",
        advantage=GroupNormalized(),
        row_filter=(DropUniformGroups(),),
        surrogate=ClippedRatio(1.0, 1.0),
        token_weight=(DropRandom(fraction, where=CovarianceBetween(low, high)),),
        aggregation=token_mean,
        papers=("clip-cov-kl-cov", "grpo"),
    )


def kl_cov(fraction: float = 2e-3, coefficient: float = 1.0) -> Objective:
    """KL-Cov (arXiv 2505.22617): the tokens of highest covariance are held near the old policy; no clip.

    ``fraction`` is ``2e-3`` for 7B models and ``2e-4`` for 32B models in the paper. With one optimiser step a rollout
    batch it is plain REINFORCE with GRPO's advantages.
    """
    return Objective(
        name="kl_cov",
        advantage=GroupNormalized(),
        row_filter=(DropUniformGroups(),),
        surrogate=UnclippedRatio(),
        aggregation=token_mean,
        regularizers=(LogRatioPenalty(where=TopCovariance(fraction), coefficient=coefficient),),
        papers=("clip-cov-kl-cov", "grpo"),
    )


def entropic(
    target: Number = 0.1, proportional: float = 1.0, integral: float = 0.01, threshold: float = 0.95
) -> Objective:
    """EntroPIC (arXiv 2511.15248): GRPO whose entropy is held at ``target`` nats.

    A proportional-integral controller sets how much more positive than negative tokens count where the policy is nearly
    sure (probability above ``threshold``).
    """
    controller = ProportionalIntegral(target, proportional, integral)
    return (
        grpo()
        .adding(regularizers=HighProbabilityAdvantage(controller, threshold), papers="entropic")
        .with_(name="entropic")
    )


def entropy_target(
    target: Number, proportional: float = 1.0, integral: float = 0.05, low: float = 0.0, high: float = 0.5
) -> Objective:
    """GRPO whose entropy is held at ``target`` nats by a bonus that a proportional-integral controller sets.

    The controller is EntroPIC's (arXiv 2511.15248), its output the coefficient of an entropy bonus between ``low`` and
    ``high``. It pays for entropy below the target. Above it nothing is done by default, so that a policy spends its
    entropy at its own pace until the target is reached; ``low=-0.5`` also charges for entropy and holds from both sides.
    The exact gradient of the entropy acts on every token, so it holds the target also where few tokens are nearly sure.
    """
    controller = ProportionalIntegral(target, -proportional, -integral, low=low, high=high)
    return grpo().adding(regularizers=EntropyBonus(controller), papers="entropic").with_(name="entropy_target")


def qae(quantile: Number = 0.4, method: Literal["inverted_cdf", "linear"] = "inverted_cdf") -> Objective:
    """QAE (arXiv 2509.22611): DAPO whose baseline is the group's ``quantile`` of the rewards, not their mean.

    A larger ``quantile`` (0.6) if the entropy falls early. ``None`` is DAPO.
    """
    return dapo().with_(name="qae", advantage=QuantileBaseline(quantile, method=method), papers=("qae", "dapo"))


def canon(
    metric: Literal["entropy", "length"] = "entropy",
    inter_weight: Number = 1.0,
    low_emphasis: Number = 1.0,
    high_emphasis: Number = 1.0,
    length: int | None = None,
) -> Objective:
    """CANON (arXiv 2509.23962): Dr. GRPO that compares the halves of a group of higher and lower entropy, or length.

    ``inter_weight`` is the paper's ``mu``: 1 compares between halves, 0 within them, 0.5 is Dr. GRPO with groups of even
    size. ``canon(metric="length", high_emphasis=0.9)`` prefers short responses.
    """
    return dr_grpo(length=length).with_(
        name="canon",
        advantage=ConditionalAdvantage(metric, inter_weight, low_emphasis, high_emphasis),
        surrogate=ClippedRatio(0.2, 0.28),
        papers=("canon", "dr-grpo"),
    )


def g2rpo(
    sets: Literal["group", "task"] = "group",
    lengths: tuple[int, int, int, int] | None = None,
    length_weight: Number = 1.0,
    entropy_band: tuple[float, float] | None = None,
    band_coefficient: Number = 0.01,
) -> Objective:
    """G2RPO (arXiv 2604.08539): GRPO on the normal scores of the rewards; groups of equal rewards dropped.

    ``lengths`` adds a bonus on lengths (minimum, low, high, maximum of a trapezoid), ``entropy_band`` a penalty outside
    a band of the entropy in nats. The paper gives neither their bounds nor their weights.
    """
    return grpo().with_(
        name="g2rpo",
        reward=(LengthTrapezoid(*lengths, weight=length_weight),) if lengths else (),
        advantage=NormalScores(sets),
        row_filter=DropUniformGroups(),
        regularizers=(MeanEntropyBand(*entropy_band, coefficient=band_coefficient),) if entropy_band else (),
        papers=("g2rpo", "grpo"),
    )


def ce_gppo(low_gradient: Number = 0.75, high_gradient: Number = 1.0, low: float = 0.2, high: float = 0.2) -> Objective:
    """CE-GPPO (arXiv 2509.20712): clipped tokens keep a bounded share of their gradient.

    ``high_gradient`` explores, ``low_gradient`` exploits; both 0 is PPO's clip.
    """
    return Objective(
        name="ce_gppo",
        advantage=GroupNormalized(),
        surrogate=GradientPreservingClip(low, high, low_gradient, high_gradient),
        aggregation=token_mean,
        papers=("ce-gppo", "grpo"),
    )


def gppo(low: float = 0.2, high: float = 0.2) -> Objective:
    """GPPO (arXiv 2508.07629): the clip bounds a token's ratio but not its gradient; CE-GPPO with both shares 1."""
    return ce_gppo(1.0, 1.0, low, high).with_(name="gppo")


def cispo(high: float = 4.0, low: float | None = None) -> Objective:
    """CISPO (MiniMax-M1, arXiv 2506.13585): the importance ratio as a clipped, detached weight; no token is dropped."""
    return Objective(
        name="cispo",
        advantage=GroupNormalized(),
        surrogate=ClippedWeight(low, high),
        aggregation=token_mean,
        papers=("cispo", "grpo"),
    )


def agentic_aepo(
    strength: Number = 0.2, low: float = 0.2, high: float = 0.2, rollout: Literal["plain", "branching"] = "plain"
) -> Objective:
    """Agentic entropy-balanced policy optimisation (arXiv 2510.14545): its clip, its advantage and its branching rollout.

    Above the clip a token keeps its gradient, below it does not; advantages grow with the token's entropy by ``strength``
    per standard deviation. With ``rollout="branching"`` responses branch after the answers of tools, as often as the
    entropy there is worth it. On the laboratory's calculator, with numbers up to 9 (50 steps, three seeds), that spares
    23 % of the tokens;
    pass@1 (0.71 against 0.73), pass@8 (0.95 against 0.96) and entropy (0.16 nats both) are no better for it.
    """
    if rollout not in ("plain", "branching"):
        raise ValueError(f"agentic_aepo: rollout must be 'plain' or 'branching', got {rollout!r}")
    return Objective(
        name="agentic_aepo",
        rollout=(ToolBranching(),) if rollout == "branching" else (),
        advantage=GroupNormalized(),
        shaping=(EntropyAwareAdvantage(strength),),
        surrogate=GradientPreservingClip(low, high, low_gradient=0.0, high_gradient=1.0, dual_clip=None),
        aggregation=token_mean,
        papers=("aepo-agentic", "grpo"),
    )


def erc(low: float = 0.95, high: float = 1.05) -> Objective:
    """Entropy ratio clipping (arXiv 2512.05591): DAPO without the gradient of tokens whose entropy left a band.

    ``low`` and ``high`` bound the ratio of a token's entropy to that of the sampling policy. With one optimiser step a
    rollout batch it is DAPO with a dual clip.
    """
    gate = EntropyRatioGate(low, high, ClippedRatio(0.2, 0.28, dual_clip=10.0))
    return dapo().with_(name="erc", surrogate=gate).adding(papers="erc")


def aent(
    low: float = 0.05,
    high: float = 0.23,
    removed: float = 0.3,
    initial: float = 2e-4,
    rate: float = 1e-3,
    smallest: float = 1e-5,
    largest: float = 3e-3,
    warm_up: int = 29,
) -> Objective:
    """AEnt (arXiv 2509.03493): a bonus on the entropy over the likelier tokens, its coefficient moved by a dead band.

    The coefficient rises while that entropy is below ``low`` nats, falls while it is above ``high``.
    """
    band = DeadBand(low, high, rate, initial, smallest, largest, warm_up, metric="clamped_entropy")
    return Objective(
        name="aent",
        advantage=GroupNormalized(),
        surrogate=ClippedRatio(0.4, 0.4),
        aggregation=token_mean,
        regularizers=(ClampedEntropyBonus(band, removed),),
        papers=("aent", "grpo"),
    )


def siren(
    coefficient: Number = 0.005, mass: float = 0.8, quantile: float = 0.8, length: int | None = None
) -> Objective:
    """SIREN (arXiv 2509.25133): Dr. GRPO whose entropy at uncertain positions is pulled back to its first value.

    The entropy is that over the nucleus of probability ``mass``, at positions above the response's ``quantile`` of it.
    """
    return (
        dr_grpo(epsilon=0.28, length=length)
        .adding(regularizers=AnchoredPeakEntropy(coefficient, mass, quantile), papers="siren")
        .with_(name="siren")
    )


def epo(
    coefficient: Number = 0.001,
    low: float = 0.0,
    high: float = 2.0,
    penalty: float = 0.1,
    steps: int = 150,
    turns: int = 50,
    shape: Literal["hinge", "indicator"] = "hinge",
) -> Objective:
    """EPO (arXiv 2509.22576) for agents: an entropy bonus less a penalty outside the band of each turn's history.

    ``steps`` is the length of the training, over which the penalty fades; ``shape="indicator"`` is the published penalty,
    which has no gradient. Needs ``extras["turn"]``.
    """
    smoothing = TurnEntropySmoothing(coefficient, low, high, penalty, PhaseWeight(steps), turns, shape)
    return grpo().with_(name="epo", aggregation=token_mean).adding(regularizers=smoothing, papers="epo")


def aer(fraction: float = 0.4, rate: float = 0.005, largest: float = 0.05, pivot: float = 0.5) -> Objective:
    """Adaptive entropy regularisation (arXiv 2510.10959): a bonus on hard prompts that holds a share of the first entropy.

    Prompts solved more often than ``pivot`` get none; one coefficient for all holds the batch's entropy at ``fraction`` of
    its first value. Inferred from the paper's abstract: forms and constants may differ from its own.
    """
    bonus = DifficultyEntropyBonus(FractionOfInitial(fraction, rate, largest), BelowPivot(pivot))
    return grpo().with_(name="aer", aggregation=token_mean).adding(regularizers=bonus, papers="aer")


def ares(
    reasoning_tokens: Collection[int] | None = None,
    gain: float = 0.5,
    kl_coefficient: float = 0.01,
    window: int = 4,
    published: bool = False,
) -> Objective:
    """ARES, whose objective is one of three called AEPO (arXiv 2510.08457): uncertain passages rewarded by difficulty.

    GRPO whose reward grows or falls with the number of passages of high entropy in a response, by whether its prompt is
    easy, medium or hard; groups of equal rewards dropped, and a KL term whose coefficient adapts in each of the three.
    ``gain`` and ``kl_coefficient`` 0 leave DAPO. ``published=True`` takes a batch's own mean as the target for the number,
    so that gains do not follow it, and moves the KL coefficients as slowly as the published code. Its branching of
    rollouts is the host's work.

    Where responses are calm or uncertain whatever is right, the share of uncertain ones fell from a half to 0.12 on prompts
    that are solved 85% of the time and rose to 0.67 on those solved 15% (150 steps; DAPO left it at 0.49 and 0.51).
    """
    tokens = None if reasoning_tokens is None else frozenset(reasoning_tokens)
    counter = UncertainWindows(window, tokens)
    slow = {"smooth_error": True, "interval": 100} if published else {}
    return dapo().with_(
        name="ares",
        reward=HierarchicalEntropyReward(counter, gain, published=published),
        surrogate=ClippedRatio(0.2, 0.3, dual_clip=3.0),
        regularizers=(DifficultyKL(kl_coefficient, counter, **slow),) if kl_coefficient else (),
        papers=("ares", "dapo", "grpo"),
    )


def dual_entropy(
    target: Number, rate: float = 0.1, initial: float = 0.01, low: float = 1e-6, high: float = 1.0
) -> Objective:
    """GRPO whose entropy is kept above ``target`` nats by soft actor-critic's temperature (arXiv 1812.05905).

    The coefficient of an entropy bonus, moved by factors: no gain has to be tuned to the scale of the coefficient.
    """
    bonus = EntropyBonus(DualVariable(target, rate, initial, low, high))
    return grpo().adding(regularizers=bonus, papers="soft-actor-critic").with_(name="dual_entropy")


def aepo_arbitrary(
    target: float,
    hot: float = 1.2,
    cold: float = 0.8,
    prompts: float = 0.25,
    responses: float = 60 / 2560,
    epsilon: float = 0.2,
) -> Objective:
    """Arbitrary entropy policy optimisation (arXiv 2510.08141): GRPO, and REINFORCE on correct responses drawn hotter.

    The responses to a share ``prompts`` of the prompts are drawn at temperature ``hot`` while the entropy is at most
    ``target`` nats, at ``cold`` while it is above. Of those only the correct ones in mixed groups are learnt from, with
    advantage 1, and as many as a share ``responses`` of the batch at most; half as many while the entropy is above.
    (In the paper further prompts are drawn for them; here they are among the prompts of the step.)

    How far it reaches grows with that share and with how far ``hot`` is from 1. On one softmax over 20 arms, where GRPO
    ends at 0.13 nats and the defaults at 0.20, half the prompts and all their correct responses hold a target of 0.8 at
    0.78, and one of 1.5 at 1.16, with temperatures of 2 and 0.5 at 1.47. On the laboratory's countdown (80 steps, three
    seeds, half the prompts, 1.5 and 0.7) a target of 0.45 was not held: 0.37 nats, against 0.35 of GRPO.
    """
    half = Switch(target, responses, responses / 2)
    return Objective(
        name="aepo_arbitrary",
        rollout=(TemperedGroups(prompts, Switch(target, hot, cold)),),
        advantage=ImitateTempered(GroupNormalized(), half),
        row_filter=(failed_when_tempered,),
        surrogate=ClippedRatio(epsilon, epsilon, dual_clip=3.0),
        aggregation=sequence_mean,
        papers=("aepo-arbitrary", "grpo"),
    )


def dcpo(target: float, hot: float = 1.2, cold: float = 0.8, largest: float = 0.1) -> Objective:
    """Arbitrary entropy policy optimisation without further rollouts (arXiv 2510.08141, the option "DCPO" of its code).

    GRPO, and REINFORCE on correct responses re-weighted to temperature ``hot`` while the entropy is at most ``target``
    nats, to ``cold`` while it is above, by as much as the entropy is off, at most ``largest``.
    """
    term = TemperedGradient(Distance(target, largest), Switch(target, hot, cold))
    return grpo().adding(regularizers=term, papers="aepo-arbitrary").with_(name="dcpo")


def spine(
    fraction: float = 0.2,
    high_weight: Number = 0.01,
    low_weight: Number = 0.01,
    low_quantile: float = 0.1,
    high_quantile: float = 0.5,
    kl_coefficient: float = 0.01,
) -> Objective:
    """SPINE (arXiv 2511.17938): TTRL at the forks of each response, with their entropy in a band and a KL there.

    The quantiles bound the band; its weights and that of the KL are ours, the paper's are not known to us.

    That it keeps the entropy at forks where TTRL loses it does not appear in the key-token environment, whose most frequent
    answer is right: in 200 steps that entropy fell from 1.04 nats to 0.10 under TTRL and to 0.14 here (rewards from 0.17 to
    0.93 and 0.87). The edges of the band are quantiles of the policy at hand and sink along with it. What held was a low
    side of ten times the weight of the high one, 0.5 and 0.05 (0.44 nats, reward 0.56), or a KL coefficient of 0.3 (0.55
    nats, reward 0.51).
    """
    anchored = (OnSelected(KLPenalty(kl_coefficient)),) if kl_coefficient else ()
    return ttrl().with_(
        name="spine",
        selection=ForkingTokens(fraction),
        aggregation=token_mean,
        regularizers=(*anchored, ForkingEntropyBand(high_weight, low_weight, low_quantile, high_quantile)),
        papers=("spine", "ttrl", "grpo"),
    )


def reasoning_with_exploration(coefficient: Number = 0.4, divisor: float = 2.0) -> Objective:
    """Reasoning with Exploration (arXiv 2506.14758): DAPO with a bonus on the advantage of uncertain tokens.

    ``coefficient`` is the paper's ``alpha`` (0 is DAPO), ``divisor`` its ``kappa``, by which the bonus never outweighs
    the advantage.
    """
    return dapo().with_(
        name="reasoning_with_exploration",
        shaping=ExplorationBonus(coefficient, divisor),
        papers=("reasoning-with-exploration", "dapo"),
    )


def steer(
    lowest: Number = 0.8,
    form: Literal["first_order", "exact", "published"] = "first_order",
    mapping: Literal["exponential", "linear"] = "exponential",
    highest: float = 1.2,
) -> Objective:
    """STEER (arXiv 2510.10150): DAPO's clipped loss in which tokens that would move the entropy much count less.

    ``lowest`` is the weight of the token of largest predicted change, 1 is DAPO without dynamic sampling and with a dual
    clip of 10. ``form="published"`` predicts as the reference code does, ``"exact"`` for separate logits; ``highest``
    belongs to the linear mapping.
    """
    return dapo().with_(
        name="steer",
        row_filter=(),
        surrogate=ClippedRatio(0.2, 0.28, dual_clip=10.0),
        token_weight=EntropyChangeWeight(lowest, form, mapping, highest),
        papers=("steer", "dapo"),
    )


def clip_b(threshold: float = 2.5) -> Objective:
    """Clip_B (arXiv 2602.03392): GRPO, mean over tokens, without punished tokens of a discriminator far below the mean.

    ``threshold`` is the paper's ``mu``, in standard deviations of the batch; infinite keeps every token.
    """
    return grpo().with_(
        name="clip_b",
        selection=BatchDiscriminatorClip(punished=(-threshold, math.inf)),
        aggregation=token_mean,
        papers=("entropy-discriminator-clip", "grpo"),
    )


def clip_v(threshold: Number = 8.5, maximum_fraction: float = 1e-4) -> Objective:
    """Clip_V (arXiv 2602.03392): GRPO, mean over tokens, without the punished tokens that would lower entropy most.

    ``threshold`` is the paper's ``mu``; at most ``maximum_fraction`` of the batch's tokens are left out (one at least).
    """
    return grpo().with_(
        name="clip_v",
        selection=VocabularyDiscriminatorClip(threshold, maximum_fraction),
        aggregation=token_mean,
        papers=("entropy-discriminator-clip", "grpo"),
    )


def entrocraft(
    band: tuple[Number, Number] = (0.6, 0.7),
    final_band: tuple[float, float] | None = None,
    steps: int = 1000,
    exceptions: Number = 0.0,
    published: bool = False,
) -> Objective:
    """Entrocraft (arXiv 2604.26326): GRPO that drops the responses which push the entropy further out of a band.

    The ends of ``band`` are in nats. With ``final_band``, such as the paper's ``(0.1, 0.2)``, they move there in a
    straight line over ``steps`` optimiser steps. One step on each rollout batch is not enough for it to act.
    ``published=True`` is the reference code, which drops nothing but takes raw rewards of one sign outside the band.
    """
    ends = band if final_band is None else tuple(Linear(a, b, steps) for a, b in zip(band, final_band, strict=True))
    if published:
        return grpo().with_(
            name="entrocraft",
            advantage=OneSignedRewards(*ends),
            aggregation=token_mean,
            papers=("entrocraft", "grpo"),
        )
    return grpo().with_(
        name="entrocraft",
        row_filter=SignFilter(*ends, exceptions=exceptions),
        token_weight=EqualPrompts(),
        papers=("entrocraft", "grpo"),
    )


def cure(
    first_stage: int = 300, continuations: int = 3, among: int = 20, low: float = 0.2, high: float = 0.28
) -> Objective:
    """Critical-token-guided re-concatenation (arXiv 2508.11016): DAPO on responses that were begun anew, then plain DAPO.

    For the first ``first_stage`` optimiser steps each full response is cut before one of its ``among`` most uncertain
    tokens, and the part before it becomes the prompt of ``continuations`` further responses, which share its group. The
    group size must be a multiple of ``1 + continuations``.

    That the first stage holds entropy shows in the laboratory (countdown, three seeds, from 0.49 nats): after the same
    46,000 sampled tokens 0.41 against 0.37 of DAPO, which took 54 steps for them to 80 of these. What the paper gains by
    that does not show: pass@1 is 0.22 against 0.23, pass@8 0.56 against 0.58.
    """
    tree = TreeRollout(forks=1, continuations=continuations, among=among, first=1, learns_prefix=False)
    objective = dapo(low, high).with_(name="cure").adding(papers="cure")
    return objective.with_(rollout=Until(tree, first_stage)) if first_stage else objective


def beyond_80_20(fraction: Number = 0.2, denominator: Literal["all", "selected"] = "all") -> Objective:
    """Beyond the 80/20 Rule (arXiv 2506.01939): DAPO whose gradient comes from the tokens of highest entropy alone.

    The mean is over all tokens, as in the paper; ``denominator="selected"`` divides by the number of kept ones instead,
    which is ``1 / fraction`` times the gradient. ``fraction=1`` is DAPO.
    """
    if denominator not in ("all", "selected"):
        raise ValueError(f"beyond_80_20: denominator must be 'all' or 'selected', got {denominator!r}")
    forks = TopEntropy(fraction)
    chosen = {"token_weight": KeepOnly(forks)} if denominator == "all" else {"selection": forks}
    return dapo().with_(name="beyond_80_20", papers=("beyond-80-20", "dapo"), **chosen)


def empg(sharpness: Number = 1.0, clarity_sharpness: Number = 1.0, clarity: Number = 0.05) -> Objective:
    """EMPG (arXiv 2509.09265): GRPO for agents, its advantages scaled by the entropy of each turn.

    ``sharpness`` and ``clarity_sharpness`` are the paper's ``k`` and ``k'``, ``clarity`` its ``zeta``, the bonus for a
    sure next turn. The host gives ``extras["turn"]``.
    """
    return grpo().with_(
        name="empg", shaping=StepModulation(sharpness, clarity_sharpness, clarity), papers=("empg", "grpo")
    )


def hicra(grams: Collection[Collection[int]] | None = None, strength: Number = 0.2) -> Objective:
    """HICRA (arXiv 2509.03646): GRPO with more credit for planning tokens.

    ``grams`` are the strategic phrases as token ids; without them the host marks planning tokens in
    ``extras["strategic"]``; in the laboratory the calculator does, at what it is asked. ``strength`` is the paper's
    ``alpha``. No gain over GRPO was seen there: pass@1 +0.011 +- 0.025, pass@8 +0.003 +- 0.007 over three seeds.
    """
    phrases = None if grams is None else frozenset(tuple(gram) for gram in grams)
    return grpo().with_(name="hicra", shaping=PlanningCredit(strength, phrases), papers=("hicra", "grpo"))


def era(low: float = 0.45, high: float = 3.0, factor: float = 2.0, rescale: bool = True) -> Objective:
    """ERA (arXiv 2510.08549): rewarded responses of too little entropy are trained through sharpened logits.

    ``low`` and ``high`` are the paper's ``omega`` in nats, over the fifth of a response's tokens of highest entropy;
    ``factor`` is its ``k``. ``rescale`` divides their advantages by it, as the paper writes (its main script does not).
    """
    activation = EntropyActivation(low, high, factor)
    return Objective(
        name="era",
        advantage=GroupNormalized(),
        shaping=(RescaledByActivation(activation),) if rescale else (),
        output_activation=activation,
        surrogate=ClippedRatio(1.0, 1.0, dual_clip=10.0),
        aggregation=token_mean,
        papers=("era", "grpo"),
    )


def gtpo(bonus: Number = 0.1, normalization: Literal["joint", "split"] = "joint") -> Objective:
    """GTPO (arXiv 2508.04349): DAPO whose rewards are shared out over tokens by entropy.

    Uncertain tokens of right answers earn more, sure tokens of wrong ones lose more. ``bonus=0`` is DAPO.
    ``normalization="split"``, the published one, loses sight of which answers were right, see `TokenEntropyShares`.
    """
    return dapo().with_(
        name="gtpo",
        advantage=TokenEntropyShares(bonus=bonus, normalization=normalization),
        papers=("gtpo-grpo-s", "dapo"),
    )


def grpo_s(bonus: Number = 0.1, low: float = 0.2, high: float = 0.28, keep_uniform: bool = False) -> Objective:
    """GRPO-S (arXiv 2508.04349): GRPO whose rewards are shared out over responses by entropy, with one ratio each.

    Where all responses of a group are wrong, their rewards differ by entropy alone, and division by the group's standard
    deviation makes of that as large an advantage as right and wrong have elsewhere. With such groups
    (``keep_uniform=True``) a policy that is right in 28% of its responses unlearnt the laboratory's calculator in 40 steps,
    reward 0.31 to 0.00 in each of three seeds; without, see the comparison of all recipes.
    """
    return grpo().with_(
        name="grpo_s",
        reward=ResponseEntropyShares(bonus=bonus),
        row_filter=() if keep_uniform else DropUniformGroups(),
        surrogate=SequenceRatio(low, high, mean="arithmetic"),
        papers=("gtpo-grpo-s", "grpo"),
    )


def em_rl(estimator: Literal["sequence", "token"] = "sequence", kl_coefficient: float = 0.001) -> Objective:
    """EM-RL (arXiv 2505.15134): no labels; RLOO with the negative entropy of the response as its reward.

    It makes likely responses likelier, whether they are right or not, until no entropy is left.
    """
    return (
        rloo(kl_coefficient)
        .with_(name="em_rl", reward=NegativeEntropy(estimator))
        .adding(papers="entropy-minimization")
    )


def ttrl(leave_one_out: bool = False) -> Objective:
    """TTRL (arXiv 2504.16084): no labels; GRPO with agreement with the group's most frequent answer as the reward."""
    return grpo().with_(name="ttrl", reward=MajorityVote(leave_one_out)).adding(papers="ttrl")


def ettrl(
    strength: Number = 1.0,
    leave_one_out: bool = False,
    rollout: Literal["plain", "tree"] = "plain",
    forks: int = 2,
    continuations: int = 2,
) -> Objective:
    """ETTRL (arXiv 2508.11356): TTRL in which certain responses count more, and which may fork at uncertain tokens.

    With ``rollout="tree"`` each full response forks at its ``forks`` most uncertain tokens into ``continuations`` further
    ones; the group size must be a multiple of ``1 + forks * continuations`` (the paper's is 60, twelve trees). How many
    tokens that saves depends on where the policy is uncertain: of the tokens of independent responses, for which uniform
    forks would need 0.60, trees needed 0.66 on the laboratory's addition and 0.88 on countdown, whose first tokens are
    the uncertain ones.
    """
    if rollout not in ("plain", "tree"):
        raise ValueError(f"ettrl: rollout must be 'plain' or 'tree', got {rollout!r}")
    tree = TreeRollout(forks, continuations)
    objective = ttrl(leave_one_out).with_(name="ettrl", shaping=ScaledByCertainty(strength)).adding(papers="ettrl")
    return objective.with_(rollout=tree) if rollout == "tree" else objective


def pear(
    alpha: Number = 1.0, weight: Number = 1.0, floor: float | None = None, kl_coefficient: float = 0.0
) -> Objective:
    """PEAR (arXiv 2510.08026): GRPO in which right answers pay for thinking with more entropy than they answer with.

    ``alpha`` is what of the answer's entropy is free. The paper keeps GRPO's KL term. The host tells the phases apart in
    ``extras["thinking"]``; where a response answers at once, as on the laboratory's countdown without working, PEAR changes
    nothing.
    """
    return (
        grpo(kl_coefficient=kl_coefficient)
        .with_(name="pear", reward=PhaseEntropyPenalty(alpha, weight, floor))
        .adding(papers="pear")
    )


def pacs(
    beta: float = 1.0,
    balanced: bool = True,
    implicit_reward: Literal["log_ratio", "mean_log_prob"] = "log_ratio",
) -> Objective:
    """PACS (arXiv 2509.02522): rewards are labels, and the policy learns to classify its responses by log-ratios.

    On fresh rollouts and with ``balanced=False`` it is RLOO.
    """
    return Objective(
        name="pacs",
        advantage=ImplicitActorCritic(beta, balanced, implicit_reward),
        surrogate=LogRatio(),
        aggregation=sequence_sum,
        papers=("pacs",),
    )


def em_ft() -> Objective:
    """EM-FT (arXiv 2505.15134): no labels, no reward; the mean entropy of the tokens drawn is the whole loss.

    It makes the likeliest token likelier at each prefix, whether it is right or not. On the laboratory's countdown ten
    steps take the entropy of held-out problems from 0.49 to 0.30 nats, pass@8 from 0.74 to 0.42 and the distinct right
    answers from 2.0 to 0.9; pass@1 does not rise (-0.01(2), 3 seeds).
    """
    return Objective(
        name="em_ft",
        advantage=no_advantage,
        surrogate=no_surrogate,
        aggregation=token_mean,
        regularizers=(EntropyBonus(-1.0),),
        papers=("entropy-minimization",),
    )


def one_shot_em(temperature: float = 0.5, sampling_temperature: float = 0.5) -> Objective:
    """One-shot entropy minimisation (arXiv 2505.20282): EM-FT for some ten steps, sampled and measured while sharpened.

    Its single unlabelled prompt is the host's to choose: `isentrope.lab.one_problem.most_varied`. That pass@1 rises does
    not appear on the laboratory's countdown: after ten steps hardly any entropy is left on the chosen prompt, and on others
    pass@1 changes by -0.02(1), pass@8 from 0.74 to 0.63 (3 seeds); at a fifth of the learning rate nothing moves there.
    """
    relative = temperature / sampling_temperature
    term = EntropyBonus(-1.0) if relative == 1 else TemperedEntropy(-1.0, relative)
    return em_ft().with_(
        name="one_shot_em", rollout=Tempered(sampling_temperature), regularizers=term, papers=("one-shot-em",)
    )


def tip(
    fraction: Number = 0.5,
    score: Literal["soft_or", "entropy", "overconfidence"] = "soft_or",
    divergence: Literal["reverse_kl", "forward_kl", "jensen_shannon"] = "reverse_kl",
) -> Objective:
    """TIP (arXiv 2604.14084): distillation on the student's own responses, at the tokens that have something to teach.

    ``fraction`` is the paper's ``rho``, the share of each response's tokens; 1 is plain on-policy distillation. The host
    needs a teacher. `SampledTokens` and `InQuadrants` are the paper's other selections. On the laboratory's countdown, 40
    steps, 3 seeds, the upper half of the tokens brings the student as near to its teacher as all of them (0.88 to 0.25
    nats, all: 0.24; by entropy alone 0.26), the lower half does not (0.53). The sure and wrong tokens, a twentieth, do more
    (0.58) than the sure and right, nearly a half (0.71).
    """
    scores = {"soft_or": SoftOr(), "entropy": Uncertainty(), "overconfidence": Overconfidence()}
    divergences = {"reverse_kl": reverse_kl, "forward_kl": forward_kl, "jensen_shannon": JensenShannon()}
    for name, value, known in (("score", score, scores), ("divergence", divergence, divergences)):
        if value not in known:
            raise ValueError(f"tip: {name} must be one of {', '.join(known)}, got {value!r}")
    return Objective(
        name="tip",
        advantage=no_advantage,
        selection=(ImportantTokens(fraction, scores[score]),),
        surrogate=TeacherDivergence(divergences[divergence]),
        aggregation=token_mean,
        papers=("tip",),
    )


def spear(
    coefficient: float = 1.0,
    imitation_steps: int = 200,
    replayed: int = 2048,
    maximum_age: int = 10,
    baselines: int = 10240,
    tool_weight: float = 1.0,
    tool_steps: int = 100,
    fraction: float = 0.02,
    low: float = 1.0,
    high: float = 40.0,
    kept_groups: float = 0.75,
    length: int | None = None,
) -> Objective:
    """SPEAR (arXiv 2509.22601): Dr. GRPO for agents that imitate their own successes more and more.

    Pay for tool calls (``tool_weight``) fades over ``tool_steps`` optimiser steps, self-imitation grows to
    ``coefficient`` over ``imitation_steps``; in both, a random ``fraction`` of the tokens whose covariance lies between
    ``low`` and ``high`` gets no gradient. ``replayed`` is the paper's ``N_D`` (32 in its smaller recipe). It imitates
    when more than ``1.5 replayed`` responses are in store. By default that never happens in the laboratory, whose batches of
    256 responses, kept for ten steps, are 2816 at most of the 3072 that it takes; ``replayed=256`` is for there. That
    responses without an end, or that repeat themselves, are dropped is left out. Needs ``extras["turn"]``. On the laboratory's
    calculator (40 steps, one seed, no more than a hint) replay ends at pass@1 0.49 and 0.18 nats, without it at 0.39 and
    0.24, GRPO at 0.52 and 0.18: entropy between that of GRPO and of an entropy bonus (0.23) does not appear.
    """
    return dr_grpo(length=length).with_(
        name="spear",
        rollout=Replay(Cosine(0.0, coefficient, imitation_steps), replayed, maximum_age, baselines),
        reward=ToolCallBonus(Cosine(tool_weight, 0.0, tool_steps)),
        row_filter=KeepVariedGroups(kept_groups),
        surrogate=ClippedRatio(0.2, 0.28),
        token_weight=DropRandom(fraction, where=CovarianceBetween(low, high)),
        papers=("spear", "dr-grpo"),
    )


def prompt_augmentation(
    templates: Collection[Template] = SYMBOLS, format_weight: float = 1.0, low: float = 0.2, high: float = 0.28
) -> Objective:
    """Prompt augmentation (arXiv 2602.03190): each visit to a prompt draws a template, whose format is rewarded.

    GRPO with a higher upper clip and the mean over tokens. By default the templates are the laboratory's `SYMBOLS`, which
    a policy must have seen: warm it up on `isentrope.lab.Templated` (on the command line, ``--task templated:countdown``).
    ``format_weight`` is what keeping to the form adds to the reward; the reward that is reported, and by which other parts
    tell right from wrong, is that of the answer alone. In a combination with a recipe that replaces rewards put this one
    last (``ttrl + prompt_augmentation``). On the calculator it keeps a little more entropy than GRPO in 40 steps, 66% of the
    first instead of 58%, and has a lower pass@1 in the one form that is tested, by 0.045 +- 0.020; on countdown neither
    was seen.
    """
    return grpo().with_(
        name="prompt_augmentation",
        rollout=PromptTemplates(tuple(templates)),
        reward=FormatBonus(format_weight),
        surrogate=ClippedRatio(low, high),
        aggregation=token_mean,
        papers=("prompt-augmentation", "grpo"),
    )


def names() -> dict[str, Callable[..., Objective]]:
    """All recipes by name, in the order of this file.

    Examples:
        >>> list(names())[:3]
        ['grpo', 'dr_grpo', 'dapo']
    """
    return {
        name: value
        for name, value in globals().items()
        if inspect.isfunction(value)
        and value.__module__ == __name__
        and value.__annotations__.get("return") is Objective
        and name not in ("named", "combined")
    }


def named(text: str, **arguments: Any) -> Objective:
    """The recipe that a text names, such as ``"grpo"``, ``"clip_cov(fraction=0.02)"`` or ``"dapo + qae + entropic"``.

    Args:
        text: a recipe's name, with literal keyword arguments in parentheses if wanted; several, joined by ``+``, are
            `combined`.
        **arguments: further arguments, for each of the recipes that has them; those in the text win.

    Raises:
        ValueError: for an unknown recipe or argument, saying which there are, and for recipes that cannot be combined.

    Examples:
        >>> named("clip_cov(fraction=0.02)").token_weight[0].fraction
        0.02
        >>> named("clip_cov + entropic", target=0.5).name
        'clip_cov + entropic'
    """
    known = names()
    calls = [(name, given, inspect.signature(known[name]).parameters) for name, given in parsed(text)]
    for argument in arguments:
        if not any(argument in parameters for _, _, parameters in calls):
            raise _no_such_argument(argument, *(name for name, _, _ in calls))
    made = []
    for name, given, parameters in calls:
        for argument in given:
            if argument not in parameters:
                raise _no_such_argument(argument, name)
        merged = {argument: value for argument, value in arguments.items() if argument in parameters} | given
        missing = [p.name for p in parameters.values() if p.default is p.empty and p.name not in merged]
        if missing:
            raise ValueError(f"recipe {name} needs {', '.join(missing)}, as in '{name}({missing[0]}=0.5)'")
        made.append(known[name](**merged))
    return combined(*made)


def takes(text: str, argument: str) -> bool:
    """Whether a recipe that a text names takes this argument and the text leaves it open.

    Examples:
        >>> takes("entropic", "target"), takes("entropic(target=0.5)", "target"), takes("grpo", "target")
        (True, False, False)
        >>> takes("qae + entropic", "target")
        True
    """
    known = names()
    return any(
        argument in inspect.signature(known[n]).parameters and argument not in given for n, given in parsed(text)
    )


def parsed(text: str) -> list[tuple[str, dict[str, Any]]]:
    """The recipes that a text names, each with the arguments that it gives.

    Raises:
        ValueError: if the text cannot be read, or there is no such recipe.

    Examples:
        >>> parsed("clip_cov(fraction=0.02) + era")
        [('clip_cov', {'fraction': 0.02}), ('era', {})]
    """
    try:
        tree, calls = ast.parse(text.strip(), mode="eval").body, []
        while isinstance(tree, ast.BinOp) and isinstance(tree.op, ast.Add):
            calls.append(_parsed_call(tree.right))
            tree = tree.left
        calls.append(_parsed_call(tree))
    except (SyntaxError, ValueError, TypeError):
        # The last is of literals that are none, as a dictionary with a list for a key.
        raise ValueError(
            f"recipe: {text!r} must be a name, or like 'clip_cov(fraction=0.02)', or several joined by +"
        ) from None
    known = names()
    for name, _ in calls:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"recipe: there is no {name!r}; {hint or 'known are'} ({', '.join(known)})")
    return calls[::-1]


def difference(objective: Objective) -> tuple[Objective, dict[str, Any]]:
    """The plain recipe that an objective changes least, and what it changes there.

    The plain recipes are `grpo`, `dr_grpo`, `dapo` and `rloo`; only one whose parts are all kept comes into question, and
    the first of several that are as near.

    Returns:
        The plain recipe; and by slot the new part, or in slots of many the added parts.

    Examples:
        >>> baseline, changes = difference(beyond_80_20(fraction=0.1))
        >>> baseline.name, changes
        ('dapo', {'token_weight': (KeepOnly(where=TopEntropy(fraction=0.1)),)})
    """
    return min(
        (
            (plain, changes)
            for plain in (grpo(), dr_grpo(), dapo(), rloo())
            if (changes := _changes(objective, plain)) is not None
        ),
        key=lambda found: len(found[1]),
    )


def combined(first: Objective, *others: Objective) -> Objective:
    """One objective with the interventions of several: the first as it is, and what each other changes (`difference`).

    To a slot of many the new parts are appended; a changed slot of one part is replaced. Where two replace the same slot
    by parts of one kind, a setting that one of them leaves at its default is the other's. The plain recipe beneath is that
    of the first, so the order of the others matters only within slots of many, whose parts act one after the other. Rollout
    parts are only appended if they set different fields of the `RolloutPlan`, at the first step.

    Raises:
        ValueError: if two of them replace the same slot, or the same field of the rollout plan, by different parts, or
            another than the first changes nothing.

    Examples:
        >>> objective = combined(dapo(), qae(quantile=0.6), entropic(target=0.5))
        >>> objective.advantage, len(objective.row_filter), len(objective.regularizers)
        (QuantileBaseline(quantile=0.6, epsilon=1e-06, method='inverted_cdf'), 1, 1)
        >>> combined(clip_cov(), era()).surrogate
        ClippedRatio(low=1.0, high=1.0, dual_clip=10.0)
        >>> combined(qae(), canon())  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ValueError: recipes qae and canon cannot be combined: both replace advantage, by QuantileBaseline(...
    """
    objective, replaced_by, planned_by = first, {}, {}
    for recipe in (first, *others):
        baseline, changes = difference(recipe)
        if not changes and recipe is not first:
            raise ValueError(
                f"recipe {recipe.name} changes nothing in a combination, it is {baseline.name}; put it first"
            )
        for name, part in _planned(recipe).items():
            earlier, present = planned_by.setdefault(name, (recipe.name, part))
            if part != present:
                raise ValueError(
                    f"recipes {earlier} and {recipe.name} cannot be combined: both replace {name} of the rollout plan, by "
                    f"{present} and by {part}"
                )
        for slot, part in changes.items():
            present = getattr(objective, slot)
            if isinstance(part, tuple):
                objective = objective.adding(**{slot: tuple(new for new in part if new not in present)})
                continue
            if slot in replaced_by:
                part = _agreeing(present, part)
            if part is None:
                raise ValueError(
                    f"recipes {replaced_by[slot]} and {recipe.name} cannot be combined: both replace {slot}, by {present} "
                    f"and by {changes[slot]}"
                )
            objective = objective.with_(**{slot: part})
            replaced_by[slot] = recipe.name
        objective = objective.adding(papers=tuple(paper for paper in recipe.papers if paper not in objective.papers))
    return objective.with_(name=" + ".join(recipe.name for recipe in (first, *others)))


def _planned(recipe: Objective) -> dict[str, Any]:
    """The fields of a rollout plan that a recipe sets at its first step, each with the part that does so."""
    # In one of two plans a number differs from whatever it is set to. A tree of any size divides a group of 0.
    plans = RolloutPlan(0), RolloutPlan(0, temperature=2.0, tempered_share=1.0, tempered_at=2.0)
    setters = {}
    for part in recipe.rollout:
        alone = grpo().with_(rollout=part)
        for plan in plans:
            planned = alone.rollout_plan(plan, alone.start())
            setters |= {f.name: part for f in fields(plan) if getattr(planned, f.name) != getattr(plan, f.name)}
    return setters


def _agreeing(one: Any, other: Any) -> Any | None:
    """Two parts as one, if they are equal or differ in settings only that one of them leaves at the default."""
    if type(one) is not type(other) or not is_dataclass(one) or isinstance(one, type):
        return one if one == other else None
    settings = {}
    for f in fields(one):
        mine, theirs = getattr(one, f.name), getattr(other, f.name)
        if mine != theirs and f.default not in (mine, theirs):
            return None
        settings[f.name] = theirs if mine == f.default else mine
    return replace(one, **settings)


def _no_such_argument(argument: str, *asked: str) -> ValueError:
    parameters = {name: inspect.signature(make).parameters for name, make in names().items()}
    takers = [name for name in parameters if argument in parameters[name]]
    hint = f"; recipes that have one: {', '.join(takers)}" if takers else ""
    taken = "; ".join(f"it takes {', '.join(parameters[name]) or 'nothing'}" for name in asked)
    return ValueError(f"recipe {' + '.join(asked)} has no {argument!r}, {taken}{hint}")


def _changes(objective: Objective, plain: Objective) -> dict[str, Any] | None:
    """What an objective changes against a plain one; None if it lacks one of its parts."""
    changes = {}
    for slot in (f.name for f in fields(Objective) if f.name not in ("name", "papers")):
        ours, theirs = getattr(objective, slot), getattr(plain, slot)
        if isinstance(theirs, tuple):
            if ours[: len(theirs)] != theirs:
                return None
            ours, theirs = ours[len(theirs) :], ()
        if ours != theirs:
            changes[slot] = ours
    return changes


def _parsed_call(tree: ast.expr) -> tuple[str, dict]:
    call = tree if isinstance(tree, ast.Call) else ast.Call(func=tree, args=[], keywords=[])
    if not isinstance(call.func, ast.Name) or call.args:
        raise ValueError
    return call.func.id, {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
