//! Which actions go out together.

use plan::statefulset::Action;

/// No more requests than this are under way for one set.
const LARGEST: usize = 500;

/// Cuts actions into steps that are taken one after the other; the units of one step go out together, and the actions of a
/// unit one after the other. Ordered, every unit is a step. In parallel, units of different ordinals share steps of 1, 2,
/// 4 ... units: if the first request is refused, the other 499 are not made.
pub(super) fn steps(actions: &[Action], parallel: bool) -> Vec<Vec<&[Action]>> {
    let mut steps: Vec<Vec<&[Action]>> = Vec::new();
    let (mut room, mut size) = (0, 1);
    for unit in units(actions) {
        let shared = parallel && unit.first().is_some_and(|action| action.ordinal().is_some());
        match steps.last_mut() {
            Some(step) if shared && room > 0 => {
                room -= 1;
                step.push(unit);
            }
            _ => {
                (room, size) = if shared { (size - 1, (size * 2).min(LARGEST)) } else { (0, 1) };
                steps.push(vec![unit]);
            }
        }
    }
    steps
}

/// Neighbouring actions of one ordinal depend on each other.
fn units(actions: &[Action]) -> impl Iterator<Item = &[Action]> {
    actions.chunk_by(|a, b| a.ordinal().is_some() && a.ordinal() == b.ordinal())
}

#[cfg(test)]
mod tests {
    use kinds::Ordinal;
    use plan::statefulset::DeleteReason;

    use super::*;

    fn delete(ordinal: u32) -> Action {
        let reason = DeleteReason::ScaledDown;
        Action::DeletePod { ordinal: Ordinal(ordinal), name: String::new(), uid: String::new(), reason }
    }

    fn forget() -> Action {
        Action::DeleteRevision { name: String::new(), uid: String::new() }
    }

    fn sizes(actions: &[Action], parallel: bool) -> Vec<usize> {
        steps(actions, parallel).iter().map(Vec::len).collect()
    }

    #[test]
    fn parallel_steps_grow_up_to_a_bound_and_ordered_ones_do_not() {
        let many: Vec<_> = (0..1600).map(delete).collect();
        assert_eq!(sizes(&many, true), [1, 2, 4, 8, 16, 32, 64, 128, 256, 500, 500, 89]);
        assert_eq!(sizes(&many, false), vec![1; 1600]);
    }

    #[test]
    fn actions_of_one_ordinal_stay_together_and_those_of_none_alone() {
        let actions = vec![delete(1), delete(1), delete(2), forget(), forget(), delete(3)];
        let steps: Vec<Vec<usize>> = steps(&actions, true).iter().map(|step| step.iter().map(|unit| unit.len()).collect()).collect();
        assert_eq!(steps, [vec![2], vec![1], vec![1], vec![1], vec![1]]);
    }
}
