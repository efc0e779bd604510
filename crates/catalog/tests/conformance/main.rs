//! What a catalog must do, whatever database is below it. Every body runs on `SQLite`, each as a
//! test of its own, and on a transient `PostgreSQL`, all in one test since starting that server
//! for each would take longer than the bodies do.

// Test code throughout: a body is no #[test] function by itself, so the workspace's leave for those
// does not reach it.
#![allow(clippy::unwrap_used)]

mod backup_testing;
mod care;
mod death;
mod disk;
mod fixture;
mod jobs;
mod nouns;
mod points;
mod races;
mod restore_testing;
mod retention;
mod sqlite;
mod steps;
mod time;

use fixture::World;
use provault_testkit::PostgresServer;

macro_rules! bodies {
    ($($module:ident :: $body:ident),+ $(,)?) => {
        mod on_sqlite {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                async fn $body() {
                    let dir = tempfile::tempdir().unwrap();
                    let file = dir.path().join("catalog.db");
                    let world = super::World::open(&format!("sqlite:{}", file.display())).await;
                    super::$module::$body(&world).await;
                }
            )+
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
        async fn on_postgresql() {
            let server = PostgresServer::start().unwrap_or_else(|error| panic!("{error}"));
            let mut failed = Vec::new();
            $(
                let url = server.create_database().unwrap();
                let body = tokio::spawn(async move {
                    let world = World::open(&url).await;
                    $module::$body(&world).await;
                    world.catalog.close().await;
                });
                if let Err(error) = body.await {
                    failed.push(format!("{}: {error}", stringify!($body)));
                }
            )+
            assert!(failed.is_empty(), "on PostgreSQL:\n{}", failed.join("\n"));
        }
    };
}

bodies! {
    nouns::settings_are_kept_and_the_first_writer_wins,
    nouns::access_keys_are_unique,
    nouns::roles_and_keys_stay_while_something_uses_them,
    nouns::vault_names_are_unique_in_the_account,
    nouns::a_vault_in_use_cannot_be_deleted,
    nouns::what_is_made_or_removed_is_noted_until_it_is_done,
    nouns::tags_merge_up_to_fifty,
    nouns::resources_are_unique_by_name_and_identity,
    nouns::a_resource_is_updated_in_one_piece,
    nouns::plans_keep_their_versions,
    nouns::selections_belong_to_a_living_plan,
    nouns::topics_and_subscriptions,
    nouns::pages_go_through_equal_moments,
    nouns::audit_is_kept,
    nouns::a_change_is_recorded_with_its_first_write,
    nouns::denials_are_joined_and_changes_are_not,
    points::points_are_found_and_removed,
    points::protected_resources_follow_their_points,
    jobs::jobs_are_found_by_every_filter,
    jobs::tokens_are_unique_by_account_and_type,
    jobs::the_oldest_waiting_job_is_claimed_first,
    jobs::one_backup_of_a_resource_at_a_time,
    jobs::a_restore_of_a_test_is_claimed_by_its_test_alone,
    jobs::a_stale_worker_is_fenced,
    jobs::a_lease_that_ran_out_is_taken_over,
    jobs::leases_of_an_earlier_process_are_void,
    steps::a_step_writes_state_log_and_changes,
    steps::a_step_that_fails_leaves_nothing,
    steps::the_outbox_follows_the_vaults_setting,
    steps::deliveries_are_claimed_retried_and_given_up,
    steps::a_dead_delivery_is_sent_again,
    steps::a_subscription_gets_what_it_asked_for,
    steps::a_digest_collects_what_is_due_together,
    steps::a_restore_test_carries_its_restore_job_along,
    steps::a_schedule_advances_once,
    care::a_care_run_is_scheduled_once,
    care::packs_and_alarms_of_a_vault,
    care::an_imported_point_is_entered_once_and_its_condition_is_kept,
    care::a_copy_of_the_catalog_is_a_catalog,
    retention::the_last_good_point_stays_until_there_is_a_newer_one,
    retention::a_point_that_is_read_is_left_alone,
    retention::the_oldest_beyond_a_number_go,
    retention::a_shrunk_point_is_marked_told_and_accepted,
    retention::a_point_from_the_future_is_not_the_newest,
    retention::settings_that_are_changed_at_once_are_both_kept,
    retention::a_point_is_read_or_deleted,
    time::a_job_that_is_put_off_waits_and_frees_its_resource,
    time::an_alarm_that_nobody_heard_is_told_when_somebody_is_there,
    time::verdicts_and_backups_are_found_by_their_end,
    time::a_delivery_is_not_held_by_a_clock_that_was_ahead,
    races::expiries_and_deletions_at_once_leave_what_should_stay,
    backup_testing::a_setting_belongs_to_the_plan_and_goes_with_it,
    backup_testing::of_four_points_one_is_tested_and_the_others_say_so,
    restore_testing::restore_testing_plans_are_named_once,
    restore_testing::restore_testing_selections_belong_to_a_plan,
    restore_testing::restore_testing_advances_once,
    restore_testing::restore_testing_advances_once_among_servers,
    races::workers_claim_each_job_once,
    races::workers_back_up_a_resource_one_at_a_time,
    races::evidence_stays_one_chain,
    races::a_vault_is_deleted_or_gets_its_point,
    races::schedules_advance_once_among_servers,
    races::deliveries_are_claimed_once,
    races::updates_of_a_resource_are_not_lost,
    races::one_of_many_equal_inserts_wins,
    races::servers_may_open_a_catalog_together,
    races::dropped_operations_leave_the_catalog_usable,
}
