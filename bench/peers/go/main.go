// The reference's own loops: each case as a Go program with golang.org/x/net/ipv4 writes it.
// Same protocol as the other peers: "case count" lines in, "nanoseconds bytes" or "missing" out.
package main

import (
	"bufio"
	"fmt"
	"log"
	"net"
	"os"
	"time"

	"golang.org/x/net/ipv4"
)

const (
	size     = 64
	protocol = 253
	segment  = 1400
)

var (
	udp     *net.UDPConn
	conn    *ipv4.PacketConn
	here    *net.UDPAddr
	payload = make([]byte, size)
	in      = make([]byte, 65536)
	sink    int
)

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func control(on bool) {
	check(conn.SetControlMessage(ipv4.FlagTTL|ipv4.FlagInterface, on))
}

func verify(data []byte) {
	for i, b := range data {
		if b != byte(i%size) {
			log.Fatalf("wrong byte at %d", i)
		}
	}
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
		_, err := udp.WriteToUDP(payload, here)
		check(err)
	}
}

func pair(n int, cm *ipv4.ControlMessage) (time.Duration, int) {
	control(cm != nil)
	bytes := 0
	start := time.Now()
	for i := 0; i < n; i++ {
		_, err := conn.WriteTo(payload, cm, here)
		check(err)
		bytes += receiveOne()
	}
	return time.Since(start), bytes
}

func pairAddrPort(n int) (time.Duration, int) {
	control(false)
	to := here.AddrPort()
	bytes := 0
	start := time.Now()
	for i := 0; i < n; i++ {
		_, err := udp.WriteToUDPAddrPort(payload, to)
		check(err)
		k, from, err := udp.ReadFromUDPAddrPort(in)
		check(err)
		sink += int(from.Port())
		bytes += k
	}
	return time.Since(start), bytes
}

func receive(n int, cm bool) (time.Duration, int) {
	control(cm)
	var spent time.Duration
	bytes := 0
	for done := 0; done < n; done += 128 {
		fill(128)
		start := time.Now()
		for i := 0; i < 128; i++ {
			bytes += receiveOne()
		}
		spent += time.Since(start)
	}
	return spent, bytes
}

func messages(count int) (tx, rx []ipv4.Message) {
	oob := (&ipv4.ControlMessage{Src: here.IP, IfIndex: 1}).Marshal()
	tx = make([]ipv4.Message, count)
	rx = make([]ipv4.Message, count)
	for i := range tx {
		tx[i] = ipv4.Message{Buffers: [][]byte{payload}, OOB: oob, Addr: here}
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
	bytes := 0
	var cm ipv4.ControlMessage
	for len(rx) > 0 {
		n, err := conn.ReadBatch(rx, 0)
		check(err)
		for i := range rx[:n] {
			m := &rx[i]
			bytes += m.N
			if look {
				check(cm.Parse(m.OOB[:m.NN]))
				sink += cm.TTL + cm.IfIndex + m.Addr.(*net.UDPAddr).Port
			}
		}
		rx = rx[n:]
	}
	return bytes
}

func batchPair(n, count int) (time.Duration, int) {
	control(true)
	tx, rx := messages(count)
	bytes := 0
	start := time.Now()
	for done := 0; done < n; done += count {
		for at := 0; at < count; at += 128 {
			end := min(at+128, count)
			sendBatch(tx[at:end])
			bytes += receiveBatch(rx[at:end], true)
		}
	}
	return time.Since(start), bytes
}

func batchReceive(n, count int, look bool) (time.Duration, int) {
	control(true)
	_, rx := messages(count)
	var spent time.Duration
	bytes := 0
	for done := 0; done < n; done += count {
		fill(count)
		start := time.Now()
		bytes += receiveBatch(rx, look)
		spent += time.Since(start)
	}
	return spent, bytes
}

func rawPair(n int) (time.Duration, int, bool) {
	c, err := net.ListenPacket(fmt.Sprintf("ip4:%d", protocol), "127.0.0.1")
	if err != nil {
		return 0, 0, false
	}
	defer c.Close()
	raw, err := ipv4.NewRawConn(c)
	check(err)
	bytes := 0
	start := time.Now()
	for i := 0; i < n; i++ {
		h := &ipv4.Header{Version: 4, Len: 20, TotalLen: 84, TTL: 64, Protocol: protocol, Dst: here.IP}
		check(raw.WriteTo(h, payload, nil))
		got, p, _, err := raw.ReadFrom(in)
		check(err)
		sink += got.TTL + got.TotalLen + got.Protocol
		bytes += len(p)
	}
	return time.Since(start), bytes, true
}

func batchSegments(n int) (time.Duration, int) {
	control(false)
	const count = 46
	tx := make([]ipv4.Message, count)
	rx := make([]ipv4.Message, count)
	big := make([]byte, segment)
	for i := range tx {
		tx[i] = ipv4.Message{Buffers: [][]byte{big}, Addr: here}
		rx[i] = ipv4.Message{Buffers: [][]byte{make([]byte, segment)}}
	}
	bytes := 0
	start := time.Now()
	for done := 0; done < n; done += count {
		sendBatch(tx)
		bytes += receiveBatch(rx, false)
	}
	return time.Since(start), bytes
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
	for i := range payload {
		payload[i] = byte(i)
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
		var bytes int
		known := true
		cm := &ipv4.ControlMessage{Src: here.IP, IfIndex: 1}
		switch name {
		case "pair":
			spent, bytes = pair(n, nil)
			verify(in[:size])
		case "pair_cm":
			spent, bytes = pair(n, cm)
			verify(in[:size])
		case "pair_addrport":
			spent, bytes = pairAddrPort(n)
		case "receive":
			spent, bytes = receive(n, false)
		case "receive_cm":
			spent, bytes = receive(n, true)
		case "half_64":
			spent, bytes = batchReceive(n, 64, true)
		case "half_64_untouched":
			spent, bytes = batchReceive(n, 64, false)
		case "raw":
			spent, bytes, known = rawPair(n)
		case "segments":
			spent, bytes = batchSegments(n)
		default:
			if _, err := fmt.Sscanf(name, "batch_%d", &k); err == nil {
				spent, bytes = batchPair(n, k)
			} else {
				spent, bytes, known = codec(name, n)
			}
		}
		if known {
			fmt.Fprintln(answers, spent.Nanoseconds(), bytes)
		} else {
			fmt.Fprintln(answers, "missing")
		}
		check(answers.Flush())
	}
}
