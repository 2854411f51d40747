"""The acceptance list of a port of golang.org/x/net/ipv4 and more: which tests show each line.

A line is shown by the tests named; here it is asserted that they are there, so that none is
renamed or dropped unnoticed.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
NAMED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)

LINES = {
    "header vectors both ways, and the order of errors": [
        "test_header.test_marshal_as_this_system_takes_it",
        "test_header.test_parse_as_this_system_gives_it",
        "test_header.test_each_form_both_ways",
        "test_header.test_malformed_bytes_are_refused_and_leave_the_object",
        "test_header.test_a_field_that_does_not_fit_is_refused_by_name",
    ],
    "control messages marshalled and parsed": [
        "test_control.test_marshal",
        "test_control.test_parse",
        "test_control.test_parse_refuses_a_bad_frame_and_leaves_the_object",
        "test_control.test_new_control_message_has_room_for_exactly_what_is_asked",
    ],
    "texts": [
        "test_header.test_string",
        "test_control.test_string",
        "test_constants.test_icmp_type_prints_its_words_and_an_unassigned_one_nil",
    ],
    "the bits of ICMPFilter": ["test_filtering.test_each_type_has_a_bit_of_its_own"],
    "options read back, and the kernel's errors": [
        "test_options.test_unicast_option",
        "test_options.test_multicast_option",
        "test_options.test_multicast_interface_is_read_as_it_was_set",
        "test_multicast.test_the_kernels_refusal_comes_as_it_is_and_says_what_was_tried",
        "test_multicast.test_memberships_come_and_go",
        "test_filtering.test_what_the_kernels_checker_refuses_is_einval",
    ],
    "deadlines": [
        "test_packet.test_a_past_deadline_fails_at_once_and_only_its_direction",
        "test_packet.test_a_deadline_that_comes_ends_the_wait_and_the_conn_lives_on",
        "test_packet.test_a_deadline_governs_calls_that_already_wait",
        "test_packet.test_close_ends_calls_that_wait_and_all_later_ones",
        "test_packet.test_many_threads_read_and_write_at_once",
    ],
    "batches keep the header that read_from strips, with options and without": [
        "test_batch.test_headers_are_not_stripped_where_read_from_strips_them",
        "test_packet.test_options_are_stripped_whole_and_the_payload_is_intact",
    ],
    "how control data is cut": [
        "test_packet.test_cut_control_data_is_never_passed_off_as_whole",
        "test_packet.test_what_others_switch_on_does_not_push_ttl_or_destination_out",
    ],
    "what the kernel rewrites in a raw header": [
        "test_raw.test_what_linux_leaves_and_what_it_rewrites",
        "test_raw.test_the_platform_fills_id_checksum_and_source_when_zero",
    ],
    "BPF encodings, machine and texts": [
        "test_bpf.test_every_instruction_has_its_word",
        "test_bpf.test_the_vm_gives_the_verdict",
        "test_bpf.test_the_vm_refuses_a_program_that_cannot_run",
        "test_bpf.test_an_instruction_prints_as_the_assembler_writes_it",
        "test_bpf_kernel.test_the_kernel_agrees_about_the_table",
    ],
    "control messages of any level and type": [
        "test_control.test_messages_of_any_level_and_type_both_ways"
    ],
    "a batch that went partly, and 1024 in one call": [
        "test_batch.test_a_batch_that_went_partly_returns_its_count_and_the_rest_can_be_sent_again",
        "test_batch.test_the_kernel_takes_1024_at_most_in_one_call",
    ],
}

# What goes beyond the reference, line by line as well.
BEYOND = {
    "ECN, kernel timestamps, lost datagrams, TTL and TOS of each packet": [
        "test_beyond.test_tos_and_ecn",
        "test_beyond.test_a_timestamp_lies_between_send_and_read",
        "test_faults_injected.test_a_full_receive_queue_is_counted",
        "test_beyond.test_packets_of_two_senders_between_hosts",
    ],
    "the error queue": [
        "test_errqueue.test_a_closed_port_of_this_host",
        "test_errqueue.test_routers_on_the_way_and_a_closed_port_at_its_end",
        "test_errqueue.test_a_router_with_a_smaller_mtu",
        "test_errqueue.test_the_error_of_one_destination_does_not_fail_the_next",
        "test_errqueue.test_a_transmit_timestamp_lies_between_the_call_and_the_receivers",
        "test_trace.TestPrivilege",
    ],
    "options": [
        "test_beyond.test_multicast_all",
        "test_beyond.test_source_filter",
        "test_beyond.test_a_source_filter_between_hosts",
        "test_beyond.test_a_transparent_proxy",
        "test_beyond.test_a_bound_interface_hears_only_its_own",
        "test_beyond.test_min_ttl_is_kept_by_the_kernel",
        "test_beyond.test_sockets_of_two_other_namespaces",
        "test_beyond.test_steering_a_group_of_sockets",
        "test_missing_options.test_setting_it_raises_and_features_tells",
        "test_docs.test_docstring_of_an_option_says_since_when_and_where_to_read_on",
        "test_docs.test_docstring_of_an_option_names_the_capability_that_it_takes",
    ],
    "Router Alert and IGMP": [
        "test_beyond.test_router_alert_on_a_forwarding_router",
        "test_beyond.test_an_igmp_report_is_read_with_its_router_alert",
        "test_beyond.test_a_querier_accepts_our_igmp_reports",
    ],
    "replies": [
        "test_beyond.test_a_reply_leaves_from_where_the_request_came",
        "test_beyond.test_a_reply_leaves_by_the_interface_of_the_request",
    ],
    "checksums": [
        "test_checksum.test_every_length",
        "test_checksum.test_in_chunks",
        "test_checksum.test_the_kernel_agrees",
    ],
    "event loops": [
        "test_aio.test_cancelling_a_read_loses_nothing",
        "test_aio.test_cancelling_a_read_of_batches_loses_nothing",
        "test_aio.test_leaving_a_loop_over_batches_loses_nothing",
        "test_aio.test_two_tasks_read_one_conn",
        "test_aio.test_closing_under_waiting_tasks",
        "test_aio.test_deadlines_are_the_loops_own",
    ],
}

# What can go wrong below and around a program, each fault made to happen for real.
FAULTS = {
    "IP options in received packets": [
        "test_packet.test_options_are_stripped_whole_and_the_payload_is_intact",
        "test_raw.test_options_and_buffers_of_every_length",
        "test_hostile.test_no_byte_around_what_was_read_is_touched",
    ],
    "hostile headers and control data": [
        "test_header.test_malformed_bytes_are_refused_and_leave_the_object",
        "test_control.test_parse_refuses_a_bad_frame_and_leaves_the_object",
        "test_hostile.test_control_bytes_that_change_while_they_are_parsed",
        "test_fuzz_corpus.test_replay",
        "test_contract_packets.test_random_lengths_through_every_path",
    ],
    "payload or control data cut": [
        "test_batch.test_a_datagram_longer_than_its_buffer_says_so",
        "test_packet.test_a_datagram_longer_than_its_buffer_can_be_told",
        "test_packet.test_cut_control_data_is_never_passed_off_as_whole",
        "test_contract_packets.test_control_truncation_ladder",
    ],
    "a batch that goes partly": [
        "test_faults_injected.test_a_batch_that_the_kernel_cuts",
        "test_batch.test_a_batch_that_went_partly_returns_its_count_and_the_rest_can_be_sent_again",
        "test_batch.test_the_kernel_takes_1024_at_most_in_one_call",
        "test_message_batch.test_write_all_sends_everything_once",
    ],
    "an error of an earlier packet": [
        "test_errqueue.test_the_error_of_one_destination_does_not_fail_the_next",
        "test_faults_injected.test_reading_after_a_stale_error",
        "test_faults_injected.test_on_a_connected_socket_it_is_raised_once",
    ],
    "every origin of the error queue": [
        "test_errqueue.test_a_closed_port_of_this_host",
        "test_errqueue.test_too_long_for_the_first_link",
        "test_errqueue.test_transmit_timestamps_are_numbered",
        "test_errqueue.test_completions_of_sends_without_copying",
        "test_faults_injected.test_an_unread_error_queue_does_not_make_a_wait_spin",
        "test_aio.test_an_unread_error_queue_delays_nothing_and_does_not_spin",
    ],
    "signals": [
        "test_threads.test_a_storm_of_signals_keeps_the_remaining_time",
        "test_threads.test_a_handlers_exception_ends_the_wait",
        "test_threads.test_control_c_ends_a_program_that_waits",
        "test_faults_injected.test_a_failed_send_is_reported_and_the_conn_goes_on",
    ],
    "a full send queue": [
        "test_full_send_queue.test_a_write_waits_within_its_deadline",
        "test_full_send_queue.test_nothing_written_is_lost_and_nothing_refused_is_sent",
        "test_full_send_queue.test_a_batch_stops_where_the_queue_is_full",
        "test_full_send_queue.test_a_task_awaits_its_turn",
    ],
    "ENOBUFS, ENOMEM and the limits of groups": [
        "test_faults_injected.test_a_failed_send_is_reported_and_the_conn_goes_on",
        "test_multicast.test_too_many_groups_and_sources_name_the_limit",
    ],
    "EMSGSIZE and a smaller path MTU": [
        "test_errqueue.test_a_router_with_a_smaller_mtu",
        "test_raw.test_a_packet_longer_than_the_mtu_is_not_fragmented",
        "test_packet.test_what_the_kernel_refuses_of_a_datagram",
    ],
    "firewalls, routes and links that refuse": [
        "test_faults_injected.test_what_a_firewall_answers",
        "test_faults_injected.test_what_routes_answer",
        "test_faults_injected.test_the_interface_goes_down_in_the_middle",
    ],
    "segmentation refused, segments merged": [
        "test_faults_injected.test_an_interface_that_refuses_segments",
        "test_faults_injected.test_segments_of_the_kernel",
        "test_beyond.test_segments_both_ways",
    ],
    "a kernel without a feature": [
        "test_faults_injected.test_a_kernel_without_batches",
        "test_faults_injected.test_enosys_is_met_once",
        "test_missing_options.test_setting_it_raises_and_features_tells",
    ],
    "closing while others wait, and numbers used again": [
        "test_packet.test_close_ends_calls_that_wait_and_all_later_ones",
        "test_threads.test_a_hundred_thousand_rounds_of_open_read_close",
        "test_threads.test_the_number_is_kept_while_a_call_uses_it",
        "test_full_send_queue.test_closing_ends_a_write_that_waits",
        "test_aio.test_closing_under_waiting_tasks",
    ],
    "deadlines moved by another thread": [
        "test_threads.test_every_waiter_obeys_a_deadline_moved_by_another",
        "test_threads.test_a_waiting_call_ends_soon_after_its_deadline",
    ],
    "fork": ["test_threads.test_a_forked_child_goes_on"],
    "buffers pinned, resized, strange": [
        "test_threads.test_a_buffer_in_flight_cannot_be_resized",
        "test_hostile.test_what_is_no_buffer_is_named",
        "test_hostile.test_more_than_two_gibibytes",
        "test_hostile.test_an_empty_datagram_is_sent_and_received_everywhere",
    ],
    "arguments whose methods act in the middle of a call": [
        "test_hostile.test_an_argument_may_close_the_conn",
        "test_hostile.test_an_argument_may_take_the_buffer_away",
        "test_hostile.test_an_argument_may_change_the_list_that_holds_it",
        "test_hostile.test_a_list_that_lies_about_its_length_ends",
    ],
    "numbers at and beyond their borders": [
        "test_hostile.test_a_number_beyond_its_range_is_named_and_changes_nothing",
        "test_hostile.test_deadlines_at_the_borders",
    ],
    "descriptors and memory run out": [
        "test_faults_injected.test_a_wait_without_descriptors_for_a_waker",
        "test_faults_injected.test_memory_refused_at_every_step",
    ],
    "a full receive queue": ["test_faults_injected.test_a_full_receive_queue_is_counted"],
    "memberships of interfaces that go": [
        "test_faults_injected.test_a_closed_interface_and_its_memberships",
        "test_multicast.test_memberships_come_and_go",
    ],
    "filters at their borders": [
        "test_filtering.test_a_type_that_the_kernel_cannot_filter_is_refused",
        "test_filtering.test_an_empty_or_too_long_program_is_refused",
        "test_beyond.test_a_locked_filter",
        "test_beyond.test_draining_before_a_filter",
    ],
    "timestamps that come late or never": [
        "test_beyond.test_a_timestamp_lies_between_send_and_read",
        "test_errqueue.test_receive_stamps_by_the_same_option",
    ],
    "other interpreters in the process": [
        "test_interpreters.test_other_interpreters_are_refused_and_the_first_goes_on"
    ],
    "cancelled tasks": [
        "test_aio.test_cancelling_a_read_loses_nothing",
        "test_aio.test_two_tasks_of_which_one_is_cancelled",
    ],
    "conns left open, and the end of the program": [
        "test_contract_conns.test_an_unclosed_conn_is_warned_of_once",
        "test_threads.test_exit_with_a_thread_that_waits",
    ],
    "other kinds of sockets": [
        "test_conn.test_another_kind_of_socket_is_refused_and_left_open",
        "test_contract_conns.test_what_no_constructor_takes",
    ],
}
LINES |= BEYOND | FAULTS


@pytest.mark.parametrize("tests", LINES.values(), ids=LINES)
def test_each_line_has_its_tests(tests):
    for test in tests:
        module, _, name = test.partition(".")
        (file,) = HERE.rglob(f"{module}.py")
        tree = ast.parse(file.read_text(encoding="utf-8"))
        assert name in [each.name for each in tree.body if isinstance(each, NAMED)]


def test_each_defect_has_its_test():
    tree = ast.parse((HERE / "test_defects.py").read_text(encoding="utf-8"))
    names = [each.name for each in tree.body if isinstance(each, ast.FunctionDef)]
    numbers = [int(name[5:7]) for name in names if name.startswith("test_")]
    assert numbers == list(range(1, 21))


def parity(tmp_path, *cases):
    results = tmp_path / "results.xml"
    results.write_text(f"<testsuites><testsuite>{''.join(cases)}</testsuite></testsuites>")
    tool = HERE.parent / "tools" / "parity.py"
    return subprocess.run(
        [sys.executable, str(tool), "--check", str(results)], capture_output=True, text=True
    )


@pytest.mark.parametrize(
    ("inside", "word"),
    [
        (None, "not run"),
        ("<skipped/>", "skipped"),
        ("<failure/>", "failed"),
        ("<error/>", "failed"),
    ],
)
def test_a_row_without_a_passing_test_fails_the_check(tmp_path, inside, word):
    case = '<testcase classname="tests.test_constants" name="test_icmp_protocol">{}</testcase>'
    done = parity(tmp_path, *([] if inside is None else [case.format(inside)]))
    assert done.returncode == 1
    # The row has a second test, which did not run here.
    assert f"ICMPType.Protocol: {word}" in done.stderr.splitlines()


def test_a_row_with_a_passing_test_passes_the_check(tmp_path):
    case = '<testcase classname="tests.test_constants" name="test_icmp_protocol[x]" />'
    assert "ICMPType.Protocol" not in parity(tmp_path, case).stderr
