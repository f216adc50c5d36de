//! Linearizability by its definition, for a handful of operations: tries every order.
//!
//! Shares no idea with the checker: no states, no pruning, no memory, no timeline.

use chaos::history::{Function, Operation, Outcome};

/// Whether some order of the acknowledged operations, and of any of the unknown ones, respects
/// real time and explains every result.
pub(crate) fn is_linearizable(operations: &[Operation]) -> bool {
    let left: Vec<&Operation> =
        operations.iter().filter(|one| one.outcome != Outcome::Fail).collect();
    explains(&left, None)
}

fn explains(left: &[&Operation], held: Option<u64>) -> bool {
    if left.iter().all(|one| one.outcome == Outcome::Unknown) {
        return true;
    }
    (0..left.len()).any(|chosen| {
        let next = left[chosen];
        let is_preceded = left
            .iter()
            .any(|other| other.completed_ns.is_some_and(|completed| completed < next.invoked_ns));
        if is_preceded {
            return false;
        }
        let Some(holds) = after(next, held) else { return false };
        let rest: Vec<&Operation> =
            left.iter().copied().filter(|other| other.id != next.id).collect();
        explains(&rest, holds)
    })
}

/// What the register holds afterwards, if the operation can have acted on `held`.
fn after(operation: &Operation, held: Option<u64>) -> Option<Option<u64>> {
    let acknowledged = operation.outcome == Outcome::Ok;
    match operation.f {
        Function::Read => (!acknowledged || operation.result == held).then_some(held),
        Function::Write => Some(operation.value),
        Function::Cas if acknowledged && operation.result != held => None,
        Function::Cas if operation.expected == held => Some(operation.value),
        Function::Cas => Some(held),
    }
}
