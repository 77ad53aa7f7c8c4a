use super::*;

const VICTIM: &str = "0f7c9a52-3a8e-4d6c-9a3b-1f2e3d4c5b6a";
const ATTACKER: &str = "11111111-2222-4333-8444-555555555555";

fn sliced(uid: &str) -> String {
    uid.replace('-', "_")
}

/// Seen from the top of everything, as by an agent without a cgroup namespace of its own.
fn seen_from_top(process: &str) -> Place {
    let accounts = Accounts { process, own: "0::/", first: "0::/init.scope" };
    Layout::default().place(&accounts)
}

/// Seen from a container of a burstable Pod, four levels below the top.
fn seen_from_container(process: &str) -> Place {
    let accounts = Accounts { process, own: "0::/", first: "0::/../../../../init.scope\n" };
    Layout::default().place(&accounts)
}

fn pod(uid: &str) -> Place {
    Place::Pod(PodUid::parse(uid).unwrap())
}

#[test]
fn every_way_in_which_kubelets_write_a_pod_is_read() {
    let under = sliced(VICTIM);
    for path in [
        format!("/kubepods.slice/kubepods-pod{under}.slice/cri-containerd-c1.scope"),
        format!(
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{under}.slice/crio-c1.scope"
        ),
        format!(
            "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{under}.slice/crio-c1.scope/container"
        ),
        format!("/kubepods/pod{VICTIM}/c1"),
        format!("/kubepods/burstable/pod{VICTIM}/c1"),
        format!("/kubepods/besteffort/pod{VICTIM}/c1/init"),
        // The Pod's own cgroup, without a container below it.
        format!("/kubepods/besteffort/pod{VICTIM}"),
    ] {
        assert_eq!(seen_from_top(&format!("0::{path}\n")), pod(VICTIM), "{path}");
    }
}

#[test]
fn hierarchies_of_the_first_version_agree_or_are_refused() {
    let path = format!("/kubepods/burstable/pod{VICTIM}/c1");
    let account = format!("12:memory:{path}\n11:cpu,cpuacct:{path}\n1:name=systemd:{path}\n0::/\n");
    assert_eq!(seen_from_top(&account), pod(VICTIM));
    let other = format!("12:memory:{path}\n1:name=systemd:/kubepods/pod{ATTACKER}/c2\n");
    let Place::Unclear(told) = seen_from_top(&other) else { panic!("two Pods at once") };
    assert!(told.contains(VICTIM) && told.contains(ATTACKER), "{told}");
}

#[test]
fn a_hierarchy_in_which_agent_and_caller_are_together_says_nothing() {
    let under = sliced(VICTIM);
    let accounts = |process: &'static str| Accounts {
        process,
        own: "4:memory:/\n1:cpu:/\n0::/\n",
        first: "4:memory:/../..\n1:cpu:/\n0::/../../../..\n",
    };
    let place = |process: String| Layout::default().place(&accounts(process.leak()));
    let of_pod = format!("4:memory:/\n1:cpu:/\n0::/../../kubepods-burstable-pod{under}.slice/c1\n");
    assert_eq!(place(of_pod), pod(VICTIM));
    assert_eq!(place("4:memory:/\n1:cpu:/\n0::/../../../..\n".to_owned()), Place::Outside);
    assert_eq!(place("4:memory:/\n1:cpu:/\n0::/\n".to_owned()), Place::Own);
}

#[test]
fn only_the_outermost_cgroup_of_a_pod_counts_whatever_a_container_makes_below_it() {
    let (bad, good) = (sliced(ATTACKER), sliced(VICTIM));
    for below in [
        format!("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{good}.slice"),
        format!("/kubepods-burstable-pod{good}.slice"),
        format!("/kubepods/pod{VICTIM}/c1"),
        format!("/pod{VICTIM}"),
        "/..".to_owned(),
    ] {
        let path = format!(
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{bad}.slice/crio-c1.scope{below}"
        );
        assert_eq!(seen_from_top(&format!("0::{path}")), pod(ATTACKER), "{path}");
        let path = format!("/kubepods/pod{ATTACKER}/c1{below}");
        assert_eq!(seen_from_top(&format!("0::{path}")), pod(ATTACKER), "{path}");
        let path = format!("/../../kubepods-burstable-pod{bad}.slice/crio-c1.scope{below}");
        assert_eq!(seen_from_container(&format!("0::{path}")), pod(ATTACKER), "{path}");
    }
}

#[test]
fn what_is_not_below_the_kubelets_own_cgroup_is_in_no_pod_whatever_it_is_called() {
    let under = sliced(VICTIM);
    for path in [
        "/".to_owned(),
        "/system.slice/sshd.service".to_owned(),
        format!("/docker/c1/kubepods/pod{VICTIM}/c1"),
        format!(
            "/user.slice/user-1000.slice/user@1000.service/kubepods.slice/kubepods-pod{under}.slice"
        ),
        format!("/system.slice/kubepods-pod{under}.slice"),
        format!("/kubepods-pod{under}.slice/c1"),
        format!("/pod{VICTIM}/c1"),
        format!("/kubepods.slice/x/kubepods-pod{under}.slice"),
        format!("/kubepods/burstable/x/pod{VICTIM}"),
        format!("/kubepods/guaranteed/pod{VICTIM}"),
        "/kubepods/pod".to_owned(),
        "/kubepods/podü".to_owned(),
        "/kubepods.slice/kubepods-pod.slice".to_owned(),
        // A dash in the name of a slice is another level.
        format!("/kubepods.slice/kubepods-pod{VICTIM}.slice"),
        format!("/kubepods/pod{}", "a".repeat(65)),
        format!("/kubepods.slice/kubepods-pod{under}.slice (deleted)"),
    ] {
        assert_eq!(seen_from_top(&format!("0::{path}")), Place::Outside, "{path}");
    }
    for nothing in ["", "\n", "garbage", "0:", "0::"] {
        assert_eq!(seen_from_top(nothing), Place::Outside, "{nothing:?}");
    }
}

#[test]
fn from_a_namespace_levels_count_from_where_it_begins() {
    let under = sliced(VICTIM);
    for (path, place) in [
        // Of the same class, of another, and of the class that has no level of its own.
        (format!("/../../kubepods-burstable-pod{under}.slice/c1"), pod(VICTIM)),
        (
            format!("/../../../kubepods-besteffort.slice/kubepods-besteffort-pod{under}.slice/c1"),
            pod(VICTIM),
        ),
        (format!("/../../../kubepods-pod{under}.slice/c1"), pod(VICTIM)),
        ("/".to_owned(), Place::Own),
        ("/probe".to_owned(), Place::Own),
        (format!("/kubepods.slice/kubepods-pod{under}.slice"), Place::Own),
        ("/../../../../system.slice/sshd.service".to_owned(), Place::Outside),
        ("/../../../..".to_owned(), Place::Outside),
        // At the top, and where the kubelet has no Pods.
        (format!("/../../../../kubepods-burstable-pod{under}.slice/c1"), Place::Outside),
        (format!("/../../../../docker/kubepods/pod{VICTIM}"), Place::Outside),
        // More levels than there are.
        (format!("/../../../../../kubepods.slice/kubepods-pod{under}.slice"), Place::Outside),
        // Another container of the agent's own Pod, which the path does not name.
        ("/../cri-containerd-c2.scope".to_owned(), Place::Outside),
    ] {
        assert_eq!(seen_from_container(&format!("0::{path}")), place, "{path}");
    }
}

#[test]
fn a_kubelet_below_a_cgroup_of_its_own_is_found_there_and_nowhere_else() {
    let under = sliced(VICTIM);
    let layout = Layout::below("/kubelet").unwrap();
    let place = |path: &str| {
        let process = format!("0::{path}");
        layout.place(&Accounts { process: &process, own: "0::/", first: "0::/" })
    };
    let slices = "/kubelet.slice/kubelet-kubepods.slice";
    assert_eq!(place(&format!("{slices}/kubelet-kubepods-pod{under}.slice/c1")), pod(VICTIM));
    let class = format!("{slices}/kubelet-kubepods-burstable.slice");
    assert_eq!(
        place(&format!("{class}/kubelet-kubepods-burstable-pod{under}.slice/c1")),
        pod(VICTIM)
    );
    assert_eq!(place(&format!("/kubelet/kubepods/burstable/pod{VICTIM}/c1")), pod(VICTIM));
    assert_eq!(place(&format!("/kubepods/burstable/pod{VICTIM}/c1")), Place::Outside);
    assert_eq!(place(&format!("{slices}/kubepods-pod{under}.slice/c1")), Place::Outside);
    for bad in ["kubelet", "", "/a b", "/..", "/a-b"] {
        assert_eq!(Layout::below(bad), None, "{bad:?}");
    }
    assert_eq!(Layout::below("/"), Some(Layout::default()));
}
