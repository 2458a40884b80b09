//! What ceso does to a host, family by family, beside the way of govc and of pyVmomi, and the tests that prove each.
//!
//! One table. It must not say more than its tests show: a family without a test of a program that is not ours says so, and a test of
//! the sources fails on a name that no test has, and on an operation of hosts that no family holds.

use super::page::Block;

use Block::{Heading, Rows, Text};

/// A family of operations.
#[derive(Debug)]
pub struct Family {
    pub name: &'static str,
    /// The operations of it, by their names.
    pub operations: &'static [&'static str],
    /// How govc does it; a dash where it does not.
    pub govc: &'static str,
    /// How pyVmomi does it.
    pub pyvmomi: &'static str,
    /// The tests that prove it, by the names of their functions. What a name begins with is the peer: `vcsim_` answers our client,
    /// `govc_` and `pyvmomi_` use our simulator, `qemu_img_` reads and writes our disks; any other name is a plain test.
    pub tests: &'static [&'static str],
    /// What of it only a real host can judge.
    pub real_host: Option<&'static str>,
}

impl Family {
    /// The peers that its tests are held against, each once.
    pub fn peers(&self) -> Vec<&'static str> {
        let known = [("vcsim_", "vcsim"), ("govc_", "govc"), ("pyvmomi_", "pyVmomi"), ("qemu_img_", "qemu-img")];
        let held = known.iter().filter(|(prefix, _)| self.tests.iter().any(|test| test.starts_with(prefix)));
        held.map(|(_, peer)| *peer).collect()
    }
}

/// All families, in the order of the reference.
pub const FAMILIES: &[Family] = &[
    Family {
        name: "Sessions",
        operations: &["host.connect", "host.connection", "host.inventory"],
        govc: "`session.login`, `session.ls`",
        pyvmomi: "`SmartConnect`, `Disconnect`",
        tests: &[
            "vcsim_renews_an_expired_session_once_for_many_calls",
            "vcsim_refuses_a_login_and_is_not_asked_again",
            "govc_reads_the_inventory",
            "sessions_that_end_in_the_middle_are_renewed_and_no_task_is_lost",
            "many_hosts_are_asked_at_once_and_a_dead_one_is_told_of",
            "one_session_is_shared_by_all_calls_and_none_is_left",
        ],
        real_host: Some("how many sessions a host takes, and after which time it ends one"),
    },
    Family {
        name: "The host's facts",
        operations: &["host.facts"],
        govc: "`about`, `host.info`, `license.ls`",
        pyvmomi: "`HostSystem.summary`, `LicenseManager.licenses`",
        tests: &["vcsim_says_what_it_is", "govc_reads_the_inventory", "pyvmomi_reads_creates_powers_and_destroys"],
        real_host: None,
    },
    Family {
        name: "Preflight",
        operations: &["host.preflight"],
        govc: "–",
        pyvmomi: "by hand, question by question",
        tests: &["vcsim_is_looked_at_before_anything_is_written", "everything_that_stands_in_the_way_is_said_at_once"],
        real_host: Some("what a free licence and a limited account are told as"),
    },
    Family {
        name: "Sensors and devices",
        operations: &["host.health"],
        govc: "`host.info -json`",
        pyvmomi: "`HostSystem.runtime.healthSystemRuntime`",
        tests: &["pyvmomi_administers_a_host", "a_sensor_is_read_with_its_power_of_ten_and_without_what_it_lacks"],
        real_host: Some("what the sensors of a machine are called and read"),
    },
    Family {
        name: "PCI devices handed through",
        operations: &["host.passthrough_devices", "vm.attach_pci", "vm.detach_pci"],
        govc: "`device.pci.ls`, `.add`, `.remove`; the memory is reserved by hand: `vm.change -memory-pin`",
        pyvmomi: "`QueryConfigTarget`, `ReconfigVM_Task` with `VirtualPCIPassthrough`",
        tests: &[
            "govc_hands_a_pci_device_through",
            "pyvmomi_administers_a_host",
            "pyvmomi_knows_every_request_that_the_client_can_send",
            "a_pci_device_is_handed_through_to_one_machine_that_runs",
            "a_device_is_named_by_hexadecimal_digits_without_a_sign",
        ],
        real_host: Some("that a guest sees the device, and which of the refusals come before the machine is turned on"),
    },
    Family {
        name: "What starts with the host",
        operations: &["host.autostart", "host.set_autostart", "vm.set_autostart"],
        govc: "`host.autostart.info`, `.configure`, `.add`, `.remove`",
        pyvmomi: "`HostAutoStartManager.ReconfigureAutostart`",
        tests: &[
            "govc_sets_what_starts_with_the_host",
            "pyvmomi_administers_a_host",
            "pyvmomi_knows_every_request_that_the_client_can_send",
            "machines_start_with_their_host_in_the_order_that_was_set_and_go_down_as_it_says",
            "words_of_hosts_are_read_in_any_case_and_machines_that_are_gone_left_out",
        ],
        real_host: Some("that the machines start, and how long it waits between them"),
    },
    Family {
        name: "What machines ask",
        operations: &["vm.question", "vm.answer"],
        govc: "`vm.question`; a power-on that waits for an answer is silent",
        pyvmomi: "`runtime.question`, `AnswerVM`",
        tests: &[
            "govc_tells_what_a_machine_asks_and_answers_it",
            "pyvmomi_administers_a_host",
            "pyvmomi_knows_every_request_that_the_client_can_send",
            "a_copied_machine_asks_when_it_is_turned_on_and_goes_on_when_it_is_answered",
            "a_running_machine_whose_datastore_is_full_asks_and_goes_on_when_there_is_room",
            "a_script_sees_what_a_copied_machine_asks_and_answers_it",
            "a_question_is_read_as_hosts_write_it",
        ],
        real_host: Some("what else machines ask, and when"),
    },
    Family {
        name: "Events and tasks",
        operations: &["host.events", "host.tasks"],
        govc: "`events -f`, `tasks -f`",
        pyvmomi: "`QueryEvents`, `CreateCollectorForEvents`, `TaskManager.recentTask`",
        tests: &[
            "vcsim_tells_what_happened",
            "govc_administers_a_host",
            "pyvmomi_administers_a_host",
            "what_happens_is_told_filtered_and_followed",
        ],
        real_host: Some("how many events a host remembers"),
    },
    Family {
        name: "Port groups",
        operations: &["network.port_groups", "network.add_port_group", "network.remove_port_group"],
        govc: "`host.portgroup.info`, `.add`, `.remove`",
        pyvmomi: "`HostNetworkSystem.AddPortGroup`, `RemovePortGroup`",
        tests: &[
            "vcsim_has_port_groups_added_and_removed",
            "govc_administers_a_host",
            "pyvmomi_administers_a_host",
            "a_host_is_administered_by_commands",
        ],
        real_host: None,
    },
    Family {
        name: "NFS mounts",
        operations: &["datastore.mount_nfs", "datastore.unmount_nfs"],
        govc: "`datastore.create -type nfs`, `datastore.remove`",
        pyvmomi: "`HostDatastoreSystem.CreateNasDatastore`, `RemoveDatastore`",
        tests: &["govc_administers_a_host", "pyvmomi_administers_a_host", "a_host_is_administered_by_commands"],
        real_host: Some("what a server that does not answer, or refuses, is told as"),
    },
    Family {
        name: "Maintenance and shutdown",
        operations: &["host.enter_maintenance", "host.exit_maintenance", "host.shutdown_order", "host.shut_down"],
        govc: "`host.maintenance.enter`, `.exit`, `host.shutdown`",
        pyvmomi: "`EnterMaintenanceMode_Task`, `ShutdownHost_Task`",
        tests: &[
            "vcsim_goes_into_maintenance_and_out_of_it",
            "govc_administers_a_host",
            "pyvmomi_administers_a_host",
            "a_host_is_shut_down_after_its_guests",
            "what_starts_first_is_shut_down_last",
        ],
        real_host: None,
    },
    Family {
        name: "The host's configuration",
        operations: &["host.backup_config", "host.restore_config"],
        govc: "–",
        pyvmomi: "`BackupFirmwareConfiguration`, `RestoreFirmwareConfiguration`; HTTPS by hand",
        tests: &["pyvmomi_administers_a_host", "a_configuration_goes_out_and_back_and_never_elsewhere"],
        real_host: Some("that a host takes its configuration back, and restarts with it"),
    },
    Family {
        name: "Inventory",
        operations: &["vm.list", "vm.find", "vm.get", "vm.info", "datastore.list", "datastore.get", "network.list"],
        govc: "`ls`, `find`, `vm.info`, `datastore.info`",
        pyvmomi: "`CreateContainerView`, `RetrievePropertiesEx`",
        tests: &[
            "vcsim_lists_machines_with_one_request_over_a_kept_session",
            "vcsim_answers_a_tiny_page_size_with_every_object",
            "govc_reads_the_inventory",
            "pyvmomi_reads_creates_powers_and_destroys",
        ],
        real_host: None,
    },
    Family {
        name: "Making and destroying machines",
        operations: &["vm.create", "vm.destroy"],
        govc: "`vm.create`, `vm.destroy`",
        pyvmomi: "`Folder.CreateVM_Task`, `Destroy_Task`",
        tests: &[
            "vcsim_lets_a_machine_live_from_create_to_destroy",
            "vcsim_sees_nothing_left_of_a_machine_that_could_not_be_made",
            "govc_makes_changes_powers_and_destroys_machines",
            "pyvmomi_reads_creates_powers_and_destroys",
        ],
        real_host: None,
    },
    Family {
        name: "Full clones",
        operations: &["vm.clone", "vm.ensure_clone"],
        govc: "– (`vm.clone` needs a vCenter)",
        pyvmomi: "`CopyVirtualDisk_Task`, `CreateVM_Task`, in steps by hand",
        tests: &[
            "vcsim_gets_a_full_clone_of_its_template",
            "vcsim_has_its_own_machines_cloned_with_their_devices",
            "a_clone_is_what_its_template_is",
            "a_clone_boots_with_the_address_that_it_is_given",
        ],
        real_host: Some("that `destSpec` keeps a thin disk thin, and how fast a host copies"),
    },
    Family {
        name: "vCenter: one datacenter, by folder and cluster",
        operations: &["host.systems", "host.places"],
        govc: "`-dc`, `ls`, `find`, `vm.info -vm.ipath`",
        pyvmomi: "a view of the containers, `parent` by `parent`",
        tests: &[
            "vcsim_vcenter_is_listed_by_folder_host_and_cluster",
            "vcsim_vcenter_connection_is_about_one_datacenter",
            "vcsim_vcenter_machines_of_one_name_are_called_by_their_paths",
            "vcsim_vcenter_name_that_is_shared_lets_no_script_touch_the_other",
            "vcsim_vcenter_files_go_to_the_datacenter_that_is_meant",
            "vcsim_vcenter_says_which_host_to_connect_to",
            "vcsim_host_says_what_needs_a_vcenter",
        ],
        real_host: None,
    },
    Family {
        name: "vCenter: machines in a place, native clones, moves, templates",
        operations: &["host.create_folder", "vm.migrate", "vm.mark_template"],
        govc: "`vm.clone`, `vm.migrate`, `object.mv`, `vm.markastemplate`, `vm.markasvm`, `folder.create`",
        pyvmomi: "`CloneVM_Task`, `RelocateVM_Task`, `MoveIntoFolder_Task`, `MarkAsTemplate`, `CreateFolder`",
        tests: &[
            "vcsim_vcenter_lets_a_machine_live_from_create_to_destroy",
            "vcsim_vcenter_clones_by_itself",
            "vcsim_vcenter_moves_machines_and_marks_templates",
            "vcsim_vcenter_runs_a_playbook_from_create_to_destroy_and_govc_sees_it",
            "pyvmomi_knows_every_request_that_the_client_can_send",
        ],
        real_host: Some(
            "what a vCenter, and not a host, can judge: addresses of cloned cards, a snapshot's linked clone, transfers by way of its hosts",
        ),
    },
    Family {
        name: "Linked clones",
        operations: &[],
        govc: "–",
        pyvmomi: "a disk with `backing.parent`, by hand",
        tests: &[
            "a_linked_clone_goes_without_its_parents_disks",
            "a_half_made_linked_clone_is_taken_away_and_its_parent_stays",
            "a_parent_with_linked_clones_is_kept_from_what_would_ruin_them",
            "what_linked_clones_build_on_is_kept_as_files_too",
        ],
        real_host: Some("that a host makes a child of a parent's disk, and what it deletes with a child"),
    },
    Family {
        name: "Registering and renaming",
        operations: &["vm.register", "vm.unregister", "vm.rename"],
        govc: "`vm.register`, `vm.unregister`, `object.rename`",
        pyvmomi: "`RegisterVM_Task`, `UnregisterVM`, `Rename_Task`",
        tests: &[
            "vcsim_renames_machines_and_takes_them_out_of_its_inventory_and_in",
            "govc_makes_changes_powers_and_destroys_machines",
            "a_machine_is_renamed_unregistered_and_registered_by_commands",
            "a_name_is_given_only_where_both_names_are_allowed",
        ],
        real_host: None,
    },
    Family {
        name: "Disks of a machine",
        operations: &[
            "vm.add_disk",
            "vm.ensure_disk",
            "vm.attach_disk",
            "vm.grow_disk",
            "vm.detach_disk",
            "vm.remove_disk",
        ],
        govc: "`vm.disk.create`, `.attach`, `.change`, `device.remove`",
        pyvmomi: "`ReconfigVM_Task` with `VirtualDisk`",
        tests: &[
            "vcsim_takes_hardware_disks_cards_and_drives_as_the_client_sends_them",
            "govc_changes_hardware_and_what_is_in_drives",
            "govc_gives_disks_their_space_and_shares_them",
            "disks_are_added_grown_taken_out_and_put_in_and_never_made_smaller",
            "what_linked_clones_build_on_is_kept_as_files_too",
        ],
        real_host: Some("which controllers a host adds to a machine that runs"),
    },
    Family {
        name: "Network cards and drives",
        operations: &[
            "vm.add_nic",
            "vm.ensure_nic",
            "vm.remove_nic",
            "vm.insert_cdrom",
            "vm.ensure_cdrom",
            "vm.eject_cdrom",
            "vm.connect_cdrom",
        ],
        govc: "`vm.network.add`, `.change`, `device.cdrom.insert`, `.eject`, `device.connect`",
        pyvmomi: "`ReconfigVM_Task` with `VirtualEthernetCard`, `VirtualCdrom`",
        tests: &[
            "vcsim_takes_hardware_disks_cards_and_drives_as_the_client_sends_them",
            "govc_changes_hardware_and_what_is_in_drives",
            "cards_and_drives_are_changed_and_seed_images_are_left_alone",
        ],
        real_host: None,
    },
    Family {
        name: "Configuration",
        operations: &["vm.configure", "vm.ensure_config"],
        govc: "`vm.change`",
        pyvmomi: "`ReconfigVM_Task`",
        tests: &[
            "vcsim_takes_hardware_disks_cards_and_drives_as_the_client_sends_them",
            "a_running_machine_without_hot_add_is_told_so_before_the_host_is_asked",
            "vcsim_lets_a_machine_live_from_create_to_destroy",
            "govc_makes_changes_powers_and_destroys_machines",
            "pyvmomi_knows_every_request_that_the_client_can_send",
        ],
        real_host: None,
    },
    Family {
        name: "Cloud-init data",
        operations: &[
            "vm.set_guestinfo",
            "vm.ensure_guestinfo",
            "vm.attach_seed",
            "vm.detach_seed",
            "vm.reip",
            "vm.ensure_reip",
        ],
        govc: "`vm.change -e guestinfo.…`, `device.cdrom.insert`",
        pyvmomi: "`ReconfigVM_Task` with `extraConfig`",
        tests: &[
            "vcsim_a_machine_is_cloned_with_cloud_init_data_and_moved_to_another_address",
            "a_clone_boots_with_the_address_that_it_is_given",
        ],
        real_host: None,
    },
    Family {
        name: "Power",
        operations: &["vm.power_on", "vm.power_off", "vm.reset", "vm.suspend", "vm.shutdown", "vm.ensure_power"],
        govc: "`vm.power`",
        pyvmomi: "`PowerOnVM_Task`, `ShutdownGuest`, …",
        tests: &[
            "vcsim_lets_a_machine_live_from_create_to_destroy",
            "vcsim_runs_many_tasks_over_one_wait",
            "govc_makes_changes_powers_and_destroys_machines",
            "pyvmomi_reads_creates_powers_and_destroys",
        ],
        real_host: None,
    },
    Family {
        name: "Waiting for a guest",
        operations: &["vm.wait_for_ip", "vm.wait_for_address", "vm.wait_for_port", "vm.wait_for_http"],
        govc: "`vm.ip`",
        pyvmomi: "`WaitForUpdatesEx` on `guest.net`",
        tests: &["vcsim_waits_for_an_address_in_vain_and_says_so", "govc_makes_changes_powers_and_destroys_machines"],
        real_host: None,
    },
    Family {
        name: "Guests",
        operations: &["guest.facts", "guest.run", "guest.upload", "guest.download", "guest.screenshot"],
        govc: "`guest.run`, `.start`, `.ps`, `.upload`, `.download`, `vm.console -capture`",
        pyvmomi: "`GuestProcessManager`, `GuestFileManager`, `CreateScreenshot_Task`; HTTPS by hand",
        tests: &[
            "govc_runs_programs_in_a_guest_and_carries_files",
            "govc_opens_consoles_and_takes_pictures",
            "pyvmomi_knows_every_request_that_the_client_can_send",
            "programs_run_in_a_guest_and_files_go_in_and_out",
            "arguments_stay_words_whatever_is_in_them",
        ],
        real_host: Some("how a guest's own tools take a program's arguments"),
    },
    Family {
        name: "Snapshots",
        operations: &[
            "vm.snapshot",
            "vm.ensure_snapshot",
            "vm.snapshots",
            "vm.revert",
            "vm.remove_snapshots",
            "snapshot.rename",
            "snapshot.revert",
            "snapshot.remove",
        ],
        govc: "`snapshot.create`, `.tree`, `.revert`, `.remove`",
        pyvmomi: "`CreateSnapshot_Task`, `RevertToSnapshot_Task`, `RemoveSnapshot_Task`",
        tests: &[
            "govc_takes_snapshots_reverts_and_removes_them",
            "pyvmomi_takes_snapshots_reverts_merges_and_makes_a_linked_clone",
            "what_a_snapshots_disks_can_be_trusted_to_hold_is_noted_with_it",
            "qemu_img_reads_a_chain_as_we_do",
            "pyvmomi_knows_every_request_that_the_client_can_send",
        ],
        real_host: Some("how long a machine is stunned, and whether its tools quiesce it"),
    },
    Family {
        name: "Consolidation",
        operations: &["vm.consolidate"],
        govc: "– (`vm.info -json` shows `consolidationNeeded`)",
        pyvmomi: "`ConsolidateVMDisks_Task`",
        tests: &[
            "pyvmomi_takes_snapshots_reverts_merges_and_makes_a_linked_clone",
            "a_delta_that_no_snapshot_owns_is_told_of_the_machine_and_its_disk",
        ],
        real_host: Some("when a host leaves deltas behind, and that it merges them"),
    },
    Family {
        name: "Files",
        operations: &[
            "datastore.browse",
            "datastore.read_text",
            "datastore.write_text",
            "datastore.make_directory",
            "datastore.copy",
            "datastore.move",
            "datastore.delete",
            "datastore.upload",
            "datastore.download",
        ],
        govc: "`datastore.ls`, `.upload`, `.download`, `.mkdir`, `.cp`, `.mv`, `.rm`",
        pyvmomi: "`FileManager`, `HostDatastoreBrowser`; HTTPS by hand",
        tests: &[
            "govc_moves_files_and_disks",
            "a_download_that_breaks_off_goes_on_where_it_was_with_and_without_ranges",
            "a_file_that_changes_under_a_download_is_never_put_together_from_two",
        ],
        real_host: Some("whether `/folder` answers ranges, and refuses a running machine's disk"),
    },
    Family {
        name: "Disks",
        operations: &["disk.info", "disk.create", "disk.copy", "disk.extend", "disk.inflate"],
        govc: "`datastore.disk.create`, `.extend`, `.inflate`, `.info`, `.cp`",
        pyvmomi: "`VirtualDiskManager`",
        tests: &[
            "govc_moves_files_and_disks",
            "qemu_img_reads_the_disks_of_the_datastore",
            "qemu_img_writes_every_form_and_it_is_read_to_the_last_byte",
            "files_folders_and_disks_are_copied_moved_and_deleted",
        ],
        real_host: None,
    },
    Family {
        name: "Leases and OVA files",
        operations: &["vm.export", "vm.import"],
        govc: "`export.ovf`, `import.ova`, `import.ovf`",
        pyvmomi: "`ExportVm`, `ImportVApp`, `HttpNfcLeaseProgress`; HTTPS by hand",
        tests: &[
            "govc_exports_a_machine_and_imports_it_again_and_qemu_img_reads_its_disk",
            "qemu_img_reads_a_sparse_disk_of_4_gib_that_was_exported",
            "pyvmomi_holds_leases_renews_them_and_sees_them_end",
            "an_appliance_is_fetched_from_servers_that_give_parts_and_from_those_that_do_not",
        ],
        real_host: Some("the content that a lease streams, and `ExportSnapshot` without a vCenter"),
    },
    Family {
        name: "Snapshots out, machines across",
        operations: &["vm.export_snapshot", "vm.clone_snapshot", "vm.copy_to"],
        govc: "`export.ovf -snapshot`; from host to host only by files",
        pyvmomi: "`ExportSnapshot`, `ImportVApp`",
        tests: &[
            "a_machine_is_streamed_to_another_host_whole_or_not_at_all",
            "what_a_poor_host_lacks_is_gone_round",
            "pyvmomi_knows_every_request_that_the_client_can_send",
        ],
        real_host: Some("whether a standalone host exports snapshots, and takes a disk whose length it is not told"),
    },
    Family {
        name: "A host's inventory as a file",
        operations: &["host.save_inventory"],
        govc: "`object.save`, which vcsim takes by `-load`",
        pyvmomi: "–",
        tests: &[
            "vcsim_inventory_is_saved_and_loaded",
            "govc_is_told_the_same_of_an_inventory_that_was_loaded",
            "a_saved_inventory_answers_in_the_simulator_as_it_did_and_holds_no_secret",
        ],
        real_host: None,
    },
    Family {
        name: "What a host can",
        operations: &["host.probe", "host.abilities"],
        govc: "–",
        pyvmomi: "by hand, release by release",
        tests: &[
            "what_a_good_host_does_is_found_out_kept_and_shown",
            "what_a_poor_host_lacks_is_gone_round",
            "what_was_found_with_another_build_or_another_host_is_not_used",
            "what_a_killed_probe_has_left_the_next_run_names",
        ],
        real_host: Some("all of it: that is what the probe is for (`tests/real`)"),
    },
    Family {
        name: "Changed blocks",
        operations: &["vm.track_changes", "vm.changed_areas"],
        govc: "`vm.change -e ctkEnabled=TRUE`; what changed it does not tell",
        pyvmomi: "`QueryChangedDiskAreas`",
        tests: &[
            "what_changed_between_two_snapshots_is_told_exactly",
            "where_the_host_cannot_tell_all_of_the_disk_is_read_and_why",
            "a_running_machine_is_tracked_from_its_next_snapshot_on",
            "pyvmomi_knows_every_request_that_the_client_can_send",
        ],
        real_host: Some("what a host says of changes, and when it is wrong"),
    },
    Family {
        name: "Trouble",
        operations: &[],
        govc: "an error; what was made stays",
        pyvmomi: "an exception; what was made stays",
        tests: &[
            "a_partition_during_create_makes_the_machine_whole_or_not_at_all",
            "an_agent_that_starts_anew_during_create_leaves_no_half_machine",
            "a_datastore_that_fills_up_during_a_clone_is_told_with_what_is_missing_and_nothing_is_left",
            "operations_at_once_on_one_machine_are_done_or_refused_and_never_mixed",
            "answers_that_are_late_lose_no_task_and_repeat_nothing",
            "a_template_that_cannot_be_cloned_is_refused_and_nothing_is_left",
            "power_that_somebody_else_changes_in_the_middle_of_a_clone_or_an_export_harms_neither",
        ],
        real_host: Some(
            "what a host answers while it is cut off or starts its agent anew, which no peer can be made to do",
        ),
    },
    Family {
        name: "Faults",
        operations: &[],
        govc: "prints the fault",
        pyvmomi: "raises the fault's type",
        tests: &[
            "govc_meets_the_faults_that_were_asked_for",
            "a_full_datastore_says_how_much_is_missing_and_keeps_nothing",
        ],
        real_host: None,
    },
];

/// The table as pages of the reference.
pub fn pages(level: usize) -> Vec<Block> {
    let rows = FAMILIES.iter().map(|family| {
        let own = |names: &[&str]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let peers = family.peers();
        vec![
            family.name.to_owned(),
            own(family.operations),
            family.govc.to_owned(),
            family.pyvmomi.to_owned(),
            if peers.is_empty() { "none".to_owned() } else { peers.join(", ") },
            own(family.tests),
            family.real_host.unwrap_or_default().to_owned(),
        ]
    });
    vec![
        Heading(level, "Held against other programs".to_owned()),
        Text(
            "Each family of what ceso does to a host, beside the way of govc and of pyVmomi, with the programs that its tests are held \
             against and the tests that prove it. vcsim is a host that ceso's client is tried on; govc and pyVmomi are clients that \
             ceso's simulator is tried with; qemu-img reads and writes the disks. The last column says what no program can judge, only \
             a real host."
                .to_owned(),
        ),
        Rows(
            vec!["family", "operations", "govc", "pyVmomi", "held against", "tests", "only a real host can judge"],
            rows.collect(),
        ),
        Text(
            "Of govc's own tests for ESXi hosts the simulator fails those that ask for something else than a host: two want vcsim's names \
             of machines, one vcsim's words for a refused login, and three a form of govc's own commands that govc has given up. What the \
             simulator leaves out it refuses: roles and accounts beyond its one user, licence keys beyond the evaluation's, a second \
             switch, the console behind a ticket, the setting of the clock."
                .to_owned(),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::path::Path;

    use super::*;

    /// The names of all functions under a folder of sources that an attribute makes tests.
    fn tests_under(folder: &Path, found: &mut HashSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                tests_under(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let mut marked = false;
                for line in std::fs::read_to_string(&path).unwrap().lines().map(str::trim) {
                    if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
                        marked = true;
                    } else if let Some(rest) = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ") {
                        if marked && let Some((name, _)) = rest.split_once('(') {
                            found.insert(name.to_owned());
                        }
                        marked = false;
                    }
                }
            }
        }
    }

    #[test]
    fn every_family_names_tests_that_are_there() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut known = HashSet::new();
        tests_under(&root.join("src"), &mut known);
        tests_under(&root.join("tests"), &mut known);
        for family in FAMILIES {
            assert!(!family.tests.is_empty(), "{}: no test proves it", family.name);
            for test in family.tests {
                assert!(known.contains(*test), "{}: there is no test {test}", family.name);
            }
            assert!(!family.peers().is_empty() || family.real_host.is_some(), "{}: ceso alone judges it", family.name);
        }
    }

    #[test]
    fn every_operation_of_a_host_is_of_one_family() {
        // These nouns are of this machine: their peers stand in chapters of their own.
        let elsewhere = ["catalog", "cloudinit", "document", "image", "repository", "test"];
        for operation in crate::ops::all() {
            let families = FAMILIES.iter().filter(|family| family.operations.contains(&operation.name)).count();
            let noun = operation.name.split('.').next().unwrap_or_default();
            let wanted = usize::from(!elsewhere.contains(&noun));
            assert_eq!(families, wanted, "{}: name it in one family of src/ops/reference/peers.rs", operation.name);
        }
        for name in FAMILIES.iter().flat_map(|family| family.operations) {
            assert!(crate::ops::find(name).is_some(), "{name}: there is no such operation");
        }
    }
}
