//! The same cases over a local folder and over an S3 server.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cases;
#[path = "../common/mod.rs"]
mod common;
mod damage;
mod races;
mod s3;

/// One test per case: `over_a_folder` and `over_s3` call the same function with a fresh, empty store.
macro_rules! on_both_stores {
    ($($module:ident :: $case:ident),* $(,)?) => {
        mod over_a_folder {
            $(#[tokio::test]
            async fn $case() {
                let folder = tempfile::tempdir().unwrap();
                let url = format!("file://{}", folder.path().display());
                let store = thyme_checkpoint::open_store(&url, &thyme_checkpoint::S3Options::default()).unwrap();
                crate::$module::$case(store).await;
            })*
        }
        mod over_s3 {
            $(#[tokio::test]
            async fn $case() {
                crate::$module::$case(crate::s3::fresh_store(stringify!($case))).await;
            })*
        }
    };
}

on_both_stores! {
    cases::what_is_saved_is_restored,
    cases::only_what_is_new_is_sent,
    cases::an_empty_store_restores_nothing,
    cases::another_log_is_refused,
    cases::a_later_format_is_refused,
    cases::old_checkpoints_and_their_files_go,
    damage::a_damaged_checkpoint_gives_way_to_the_one_before,
    damage::what_cannot_be_used_at_all_restores_nothing,
    damage::a_failed_check_counts_as_damage,
    races::of_two_writers_one_wins,
    races::nobody_goes_back,
    races::two_states_at_one_place_must_agree,
    races::a_lost_answer_is_no_lost_race,
    races::a_store_that_fails_at_any_call_loses_nothing,
}
