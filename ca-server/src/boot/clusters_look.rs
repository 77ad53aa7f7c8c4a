//! A look at the clusters of a configuration, before a start.

use futures::future::join_all;
use plugins::ConfigProblem;

use crate::config::Config;

/// What a server of this configuration would find wrong with its clusters, each by the name of its section.
pub(super) async fn problems(config: &Config) -> Vec<ConfigProblem> {
    let looks = config.clusters().iter().map(async |cluster| {
        let field = format!("cluster.{}", cluster.name);
        let wrong = clusters::look(cluster).await;
        wrong.into_iter().map(move |wrong| ConfigProblem::new(field.clone(), wrong))
    });
    join_all(looks).await.into_iter().flatten().collect()
}
