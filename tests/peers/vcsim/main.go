// vcsim: govmomi's simulator as a peer to test against. It prints {"url":…} on one line when it is ready.
// tests/peers/prepare builds it.
package main

import (
	"crypto/tls"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

func main() {
	esxMode := flag.Bool("esx", false, "a standalone ESXi host instead of a vCenter")
	machines := flag.Int("vm", 2, "number of virtual machines (per pool in vCenter mode)")
	datacenters := flag.Int("dc", 1, "number of datacenters of a vCenter")
	folders := flag.Int("folder", 0, "number of folders of each kind in which a vCenter keeps its datacenters and what is in them")
	listen := flag.String("l", "127.0.0.1:0", "address to listen on")
	user := flag.String("username", "", "user that may log in; without one anybody may")
	password := flag.String("password", "", "that user's password")
	plain := flag.Bool("plain", false, "HTTP without TLS")
	off := flag.Bool("off", false, "leave the machines powered off")
	idle := flag.Duration("idle", 0, "time after which an unused session expires, such as 3s; 0: never")
	delay := flag.Int("delay", 0, "milliseconds before every answer")
	methodDelay := flag.String("method-delay", "", "METHOD:MS,…: milliseconds for single methods or tasks")
	fault := flag.String("fault", "", "METHOD:PROBABILITY,…: answer these methods with a SystemError")
	trace := flag.String("trace-file", "", "file that receives every request and answer")
	flag.Parse()
	if *trace != "" {
		file, err := os.Create(*trace)
		if err != nil {
			log.Fatal(err)
		}
		simulator.Trace, simulator.TraceFile = true, file
	}

	model := simulator.VPX()
	if *esxMode {
		model = simulator.ESX()
	}
	if !*esxMode {
		model.Datacenter, model.Folder = *datacenters, *folders
	}
	model.Machine, model.Autostart = *machines, !*off
	model.DelayConfig.Delay = *delay
	model.DelayConfig.MethodDelay = map[string]int{}
	for _, item := range list(*methodDelay) {
		var ms int
		name, value, _ := strings.Cut(item, ":")
		if _, err := fmt.Sscan(value, &ms); err != nil {
			log.Fatalf("-method-delay %q: %v", item, err)
		}
		model.DelayConfig.MethodDelay[name] = ms
	}
	simulator.TaskDelay.MethodDelay = model.DelayConfig.MethodDelay
	if err := model.Create(); err != nil {
		log.Fatal(err)
	}
	service := model.Service
	service.RegisterEndpoints = true
	service.Listen = &url.URL{Host: *listen}
	if *user != "" {
		service.Listen.User = url.UserPassword(*user, *password)
	}
	if !*plain {
		service.TLS = new(tls.Config)
	}
	if *idle > 0 {
		simulator.Map(service.Context).OptionManager().UpdateOptions(&types.UpdateOptions{
			ChangedValue: []types.BaseOptionValue{&types.OptionValue{
				Key: "config.vmacore.soap.sessionTimeout", Value: idle.String(),
			}},
		})
	}
	for _, item := range list(*fault) {
		var probability float64
		name, value, _ := strings.Cut(item, ":")
		if _, err := fmt.Sscan(value, &probability); err != nil {
			log.Fatalf("-fault %q: %v", item, err)
		}
		service.AddFaultRule(&simulator.FaultInjectionRule{
			MethodName: name, ObjectType: "*", ObjectName: "*", Probability: probability,
			FaultType: simulator.FaultTypeGeneric, Message: "injected", Enabled: true,
		})
	}
	server := service.NewServer()
	defer server.Close()
	defer model.Remove()
	json.NewEncoder(os.Stdout).Encode(map[string]any{"url": server.URL.String(), "pid": os.Getpid()})
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	<-stop
}

func list(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}
