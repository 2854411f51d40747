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
        "test_error_queue.test_a_closed_port_of_this_host",
        "test_error_queue.test_routers_on_the_way_and_a_closed_port_at_its_end",
        "test_error_queue.test_a_router_with_a_smaller_mtu",
        "test_error_queue.test_the_error_of_one_destination_does_not_fail_the_next",
        "test_error_queue.test_a_transmit_timestamp_lies_between_the_call_and_the_receivers",
        "test_cli_trace.TestPrivilege",
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
LINES |= BEYOND


@pytest.mark.parametrize("tests", LINES.values(), ids=LINES)
def test_each_line_has_its_tests(tests):
    for test in tests:
        module, _, name = test.partition(".")
        tree = ast.parse((HERE / f"{module}.py").read_text(encoding="utf-8"))
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
