// The reference's own loops: each case as a Go program with golang.org/x/net/ipv4 writes it.
// Same protocol as the other peers: "case count" lines in, "nanoseconds bytes" or "missing" out.
package main

import (
	"bufio"
	"bytes"
	"fmt"
	"log"
	"net"
	"os"
	"time"

	"golang.org/x/net/ipv4"
)

const (
	size     = 64
	protocol = 252
	segment  = 1400
)

var (
	udp      *net.UDPConn
	conn     *ipv4.PacketConn
	here     *net.UDPAddr
	payloads [1024][size]byte
	in       = make([]byte, 65536)
	sink     int
)

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func control(on bool) {
	check(conn.SetControlMessage(ipv4.FlagTTL|ipv4.FlagInterface, on))
}

func verify(got, sent []byte) {
	if !bytes.Equal(got, sent) {
		log.Fatal("a wrong byte arrived")
	}
}

// verifyBatch compares what the first messages of a batch bear with what was sent.
func verifyBatch(rx []ipv4.Message) {
	for i := range rx[:min(len(rx), 128)] {
		verify(rx[i].Buffers[0], payloads[i][:])
	}
}

func nothingLeft() {
	check(udp.SetReadDeadline(time.Unix(1, 0)))
	if _, _, err := udp.ReadFromUDPAddrPort(in); err == nil {
		log.Fatal("a packet too many arrived")
	}
	check(udp.SetReadDeadline(time.Time{}))
}

func receiveOne() int {
	n, cm, src, err := conn.ReadFrom(in)
	check(err)
	if cm != nil {
		sink += cm.TTL + cm.IfIndex
	}
	sink += src.(*net.UDPAddr).Port
	return n
}

func fill(n int) {
	for i := 0; i < n; i++ {
		_, err := udp.WriteToUDP(payloads[i][:], here)
		check(err)
	}
}

func pair(n int, cm *ipv4.ControlMessage) (time.Duration, int) {
	control(cm != nil)
	moved := 0
	start := time.Now()
	for i := 0; i < n; i++ {
		_, err := conn.WriteTo(payloads[0][:], cm, here)
		check(err)
		moved += receiveOne()
	}
	spent := time.Since(start)
	verify(in[:size], payloads[0][:])
	return spent, moved
}

func pairAddrPort(n int) (time.Duration, int) {
	control(false)
	to := here.AddrPort()
	moved := 0
	start := time.Now()
	for i := 0; i < n; i++ {
		_, err := udp.WriteToUDPAddrPort(payloads[0][:], to)
		check(err)
		k, from, err := udp.ReadFromUDPAddrPort(in)
		check(err)
		sink += int(from.Port())
		moved += k
	}
	spent := time.Since(start)
	verify(in[:size], payloads[0][:])
	return spent, moved
}

func receive(n int, cm bool) (time.Duration, int) {
	control(cm)
	var spent time.Duration
	moved := 0
	for done := 0; done < n; done += 128 {
		fill(128)
		start := time.Now()
		for i := 0; i < 128; i++ {
			moved += receiveOne()
		}
		spent += time.Since(start)
		verify(in[:size], payloads[127][:])
	}
	return spent, moved
}

func messages(count int) (tx, rx []ipv4.Message) {
	oob := (&ipv4.ControlMessage{Src: here.IP, IfIndex: 1}).Marshal()
	tx = make([]ipv4.Message, count)
	rx = make([]ipv4.Message, count)
	for i := range tx {
		tx[i] = ipv4.Message{Buffers: [][]byte{payloads[i][:]}, OOB: oob, Addr: here}
		rx[i] = ipv4.Message{Buffers: [][]byte{make([]byte, size)},
			OOB: ipv4.NewControlMessage(ipv4.FlagTTL | ipv4.FlagInterface)}
	}
	return tx, rx
}

func sendBatch(tx []ipv4.Message) {
	for len(tx) > 0 {
		n, err := conn.WriteBatch(tx, 0)
		check(err)
		tx = tx[n:]
	}
}

func receiveBatch(rx []ipv4.Message, look bool) int {
	moved := 0
	var cm ipv4.ControlMessage
	for len(rx) > 0 {
		n, err := conn.ReadBatch(rx, 0)
		check(err)
		for i := range rx[:n] {
			m := &rx[i]
			moved += m.N
			if look {
				check(cm.Parse(m.OOB[:m.NN]))
				sink += cm.TTL + cm.IfIndex + m.Addr.(*net.UDPAddr).Port
			}
		}
		rx = rx[n:]
	}
	return moved
}

func batchPair(n, count int) (time.Duration, int) {
	control(true)
	tx, rx := messages(count)
	moved := 0
	start := time.Now()
	for done := 0; done < n; done += count {
		for at := 0; at < count; at += 128 {
			end := min(at+128, count)
			sendBatch(tx[at:end])
			moved += receiveBatch(rx[at:end], true)
		}
	}
	spent := time.Since(start)
	verifyBatch(rx)
	return spent, moved
}

func batchReceive(n, count int, look bool) (time.Duration, int) {
	control(true)
	_, rx := messages(count)
	var spent time.Duration
	moved := 0
	for done := 0; done < n; done += count {
		fill(count)
		start := time.Now()
		moved += receiveBatch(rx, look)
		spent += time.Since(start)
		verifyBatch(rx)
	}
	return spent, moved
}

func rawPair(n int) (time.Duration, int, bool) {
	c, err := net.ListenPacket(fmt.Sprintf("ip4:%d", protocol), "127.0.0.1")
	if err != nil {
		return 0, 0, false
	}
	defer c.Close()
	raw, err := ipv4.NewRawConn(c)
	check(err)
	var last []byte
	moved := 0
	start := time.Now()
	for i := 0; i < n; i++ {
		h := &ipv4.Header{Version: 4, Len: 20, TotalLen: 84, TTL: 64, Protocol: protocol, Dst: here.IP}
		check(raw.WriteTo(h, payloads[0][:], nil))
		got, p, _, err := raw.ReadFrom(in)
		check(err)
		sink += got.TTL + got.TotalLen + got.Protocol
		moved += len(p)
		last = p
	}
	spent := time.Since(start)
	verify(last, payloads[0][:])
	return spent, moved, true
}

func batchSegments(n int) (time.Duration, int) {
	control(false)
	const count = 46
	tx := make([]ipv4.Message, count)
	rx := make([]ipv4.Message, count)
	for i := range tx {
		big := make([]byte, segment)
		for k := range big {
			big[k] = byte(k % size)
		}
		tx[i] = ipv4.Message{Buffers: [][]byte{big}, Addr: here}
		rx[i] = ipv4.Message{Buffers: [][]byte{make([]byte, segment)}}
	}
	moved := 0
	start := time.Now()
	for done := 0; done < n; done += count {
		sendBatch(tx)
		moved += receiveBatch(rx, false)
	}
	spent := time.Since(start)
	for i := range rx {
		verify(rx[i].Buffers[0], tx[i].Buffers[0])
	}
	return spent, moved
}

func codec(name string, n int) (time.Duration, int, bool) {
	h := &ipv4.Header{Version: 4, Len: 20, TotalLen: 84, ID: 7, TTL: 64, Protocol: 1,
		Src: net.IPv4(10, 0, 0, 1), Dst: net.IPv4(10, 0, 0, 2)}
	wire, err := h.Marshal()
	check(err)
	cm := &ipv4.ControlMessage{Src: net.IPv4(127, 0, 0, 1), IfIndex: 1}
	told := []byte("\x1c\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x08\x00\x00\x00" +
		"\x01\x00\x00\x00\x7f\x00\x00\x01\x7f\x00\x00\x01\x00\x00\x00\x00" +
		"\x14\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x40\x00\x00\x00\x00\x00\x00\x00")
	start := time.Now()
	switch name {
	case "parse_header", "header_parse":
		for i := 0; i < n; i++ {
			got, err := ipv4.ParseHeader(wire)
			check(err)
			sink += got.TTL
		}
	case "header_marshal":
		for i := 0; i < n; i++ {
			b, err := h.Marshal()
			check(err)
			sink += len(b)
		}
	case "control_parse":
		for i := 0; i < n; i++ {
			var got ipv4.ControlMessage
			check(got.Parse(told))
			sink += got.TTL
		}
	case "control_marshal":
		for i := 0; i < n; i++ {
			sink += len(cm.Marshal())
		}
	default:
		return 0, 0, false
	}
	return time.Since(start), n, true
}

func main() {
	var err error
	for j := range payloads {
		for i := range payloads[j] {
			payloads[j][i] = byte(i + j)
		}
	}
	udp, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	check(err)
	here = udp.LocalAddr().(*net.UDPAddr)
	conn = ipv4.NewPacketConn(udp)
	answers := bufio.NewWriter(os.Stdout)
	fmt.Fprintln(answers, "ready")
	check(answers.Flush())
	var name string
	var n, k int
	for {
		if _, err := fmt.Scan(&name, &n); err != nil {
			return
		}
		var spent time.Duration
		var moved int
		known := true
		cm := &ipv4.ControlMessage{Src: here.IP, IfIndex: 1}
		switch name {
		case "pair":
			spent, moved = pair(n, nil)
		case "pair_cm":
			spent, moved = pair(n, cm)
		case "pair_addrport":
			spent, moved = pairAddrPort(n)
		case "receive":
			spent, moved = receive(n, false)
		case "receive_cm":
			spent, moved = receive(n, true)
		case "half_64":
			spent, moved = batchReceive(n, 64, true)
		case "half_64_untouched":
			spent, moved = batchReceive(n, 64, false)
		case "raw":
			spent, moved, known = rawPair(n)
		case "segments":
			spent, moved = batchSegments(n)
		default:
			if _, err := fmt.Sscanf(name, "batch_%d", &k); err == nil {
				spent, moved = batchPair(n, k)
			} else {
				spent, moved, known = codec(name, n)
			}
		}
		nothingLeft()
		if known {
			fmt.Fprintln(answers, spent.Nanoseconds(), moved)
		} else {
			fmt.Fprintln(answers, "missing")
		}
		check(answers.Flush())
	}
}
