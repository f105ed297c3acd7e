//! `xl trace`.

use alloc::format;

use dom0_core::shell::Trace;

use super::{Failure, Outcome, Shell};
use crate::trace::{Progress, TraceError};

impl From<TraceError> for Failure {
    fn from(error: TraceError) -> Self {
        Failure(format!("trace: {error}"))
    }
}

impl Shell {
    /// `xl trace start|stop|status`.
    pub(super) async fn trace(&self, command: &Trace) -> Outcome {
        match command {
            Trace::Start(file) => Ok(self.tracing.start(file).await?),
            Trace::Stop => self.say(&told(&self.tracing.stop().await?)).await,
            Trace::Status => match self.tracing.progress() {
                Some(progress) => self.say(&told(&progress)).await,
                None => self.say("no trace is being made").await,
            },
        }
    }
}

fn told(progress: &Progress) -> alloc::string::String {
    let Progress { file, bytes, records, lost } = progress;
    format!("{file}: {records} records, {bytes} bytes, {lost} lost")
}
