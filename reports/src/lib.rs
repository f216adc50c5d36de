//! What a run leaves behind: one folder of plain files that anybody can read.
//!
//! A leaf: it knows no Raft, no network and no plan. Whoever runs something converts what was
//! seen into a [`RunRecord`] and [`Sample`]s; this crate turns them into files, plots and a table.
//! All times are counted from one zero, the start of the run; names end with their unit.

mod absence;
mod catch_up;
mod environment;
mod error;
mod event;
mod figures;
mod folder;
mod lanes;
mod latency;
mod page;
mod plot;
mod record;
mod runs;
mod sample;
mod seconds;
mod seen;
mod series;
mod slowest;
mod summary;
mod table;
mod trace;

pub use catch_up::{CatchUp, CatchUpPoint};
pub use error::{Error, Result};
pub use event::{Event, EventLog, Events, Queues, What};
pub use folder::{LineWriter, RunFolder, create_sweep_folder};
pub use latency::Recorder;
pub use record::{
    Check, Environment, Fault, Lapse, Mark, RunRecord, SCHEMA_VERSION, Trial, Verdict,
};
pub use runs::{PastRun, past_runs};
pub use sample::{Kind, OBSERVERS_FROM, Outcome, Point, Sample};
pub use seen::Seen;
pub use series::{LatencyRow, ThroughputRow};
pub use summary::{Offered, P99_SAMPLES_MIN, Summary};
pub use table::render;
