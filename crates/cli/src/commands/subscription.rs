//! `subscription`: one receiver of a topic.

use provault_wire::provault::SubscriptionTest;

use super::Context;
use crate::client::{Answer, segment};
use crate::error::CliError;
use crate::exit::Exit;

#[derive(Debug, clap::Subcommand)]
pub enum SubscriptionCommand {
    /// Send a message that says it is a test, at once, and tell what the receiver said
    Test {
        /// The subscription's id
        id: String,
    },
}

impl SubscriptionCommand {
    pub(crate) fn run(self, context: &Context<'_>) -> Result<Exit, CliError> {
        let Self::Test { id } = self;
        let path = format!("/subscriptions/{}/test", segment(&id));
        let test: Answer<SubscriptionTest> = context.client.own("POST", &path, &[], None)?;
        let (word, exit) = if test.typed.delivered {
            ("delivered", Exit::Done)
        } else {
            ("not delivered", Exit::Failed)
        };
        context.out.show_line(&test.json, &format!("{word}: {}", test.typed.detail))?;
        Ok(exit)
    }
}
