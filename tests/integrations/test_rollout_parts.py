"""Rollouts that only the laboratory carries out are refused elsewhere, at construction and by name."""

import pytest

from isentrope.policy import RolloutPlan, recipes
from isentrope.policy.rollout import Tempered, Until

PLANS = {
    "cure": "Until(part=TreeRollout",
    "ettrl(rollout='tree')": "TreeRollout",
    "agentic_aepo(rollout='branching')": "ToolBranching",
    "aepo_arbitrary(target=0.5)": "TemperedGroups",
    "prompt_augmentation": "PromptTemplates",
}


@pytest.mark.parametrize("text", PLANS)
def test_trl_refuses_what_its_generation_cannot_do(text):
    pytest.importorskip("trl")
    from isentrope.integrations.trl._checks import check_rollout

    objective, state = recipes.named(text), recipes.named(text).start()
    # Ten responses a prompt hold whole trees of five; the others' trees are refused before they are planned.
    with pytest.raises(ValueError, match=rf"TRL cannot host rollout\[0\], {PLANS[text].replace('(', '.')}"):
        check_rollout(objective, state, RolloutPlan(10), use_vllm=False)


def test_trl_hosts_a_temperature_for_the_first_steps_and_looks_at_later_steps_too():
    pytest.importorskip("trl")
    from isentrope.integrations.trl._checks import check_rollout

    for_a_while = recipes.dapo().with_(rollout=Until(Tempered(1.2), step=3))
    late = for_a_while.start()
    for _ in range(3):
        late = late.next_step()
    for state in (for_a_while.start(), late):
        check_rollout(for_a_while, state, RolloutPlan(8), use_vllm=False)
    cure = recipes.cure(first_stage=3)
    with pytest.raises(ValueError, match="not to branch"):
        check_rollout(cure, late, RolloutPlan(8), use_vllm=False)
    check_rollout(recipes.cure(first_stage=0), recipes.cure(first_stage=0).start(), RolloutPlan(8), use_vllm=False)


@pytest.mark.parametrize("text", PLANS)
def test_verl_refuses_all_of_them(text):
    pytest.importorskip("verl")
    from isentrope.integrations.verl.configuration import refuse_what_verl_cannot

    with pytest.raises(ValueError, match=r"independent responses to the prompts of its data set.*cannot host the"):
        refuse_what_verl_cannot(recipes.named(text))
