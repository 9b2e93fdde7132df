package api

import (
	"context"
	"encoding/base64"
	"strconv"

	"rehost/localcloud/internal/cloud"
	"rehost/localcloud/internal/fault"
	"rehost/localcloud/internal/state"
)

func modifyInstance(_ context.Context, s *Server, _ *state.State, p params) (any, error) {
	id := p.need("InstanceId")
	a := cloud.Attributes{
		OnShutdown: p.optStr("InstanceInitiatedShutdownBehavior.Value"), NoTerminate: p.optBool("DisableApiTermination.Value"),
		Type: p.optStr("InstanceType.Value"), Groups: p.list("GroupId"), DeleteOnTermination: map[string]bool{},
	}
	if p.has("UserData.Value") {
		a.UserData = p.base64("UserData.Value")
	}
	for _, b := range p.structs("BlockDeviceMapping") {
		a.DeleteOnTermination[p.need(b+"DeviceName")] = p.boolean(b + "Ebs.DeleteOnTermination")
	}
	if *p.err != nil {
		return nil, *p.err
	}
	return nil, s.Cloud.Modify(id, a)
}

type xmlValue struct {
	Value string `xml:"value"`
}

func describeInstanceAttribute(_ context.Context, s *Server, st *state.State, p params) (any, error) {
	id, name := p.need("InstanceId"), p.need("Attribute")
	if *p.err != nil {
		return nil, *p.err
	}
	in := st.Instances[id]
	if in == nil {
		return nil, fault.NotFound("InvalidInstanceID", id)
	}
	var out struct {
		InstanceID  string       `xml:"instanceId"`
		OnShutdown  *xmlValue    `xml:"instanceInitiatedShutdownBehavior"`
		NoTerminate *xmlValue    `xml:"disableApiTermination"`
		Type        *xmlValue    `xml:"instanceType"`
		UserData    *xmlValue    `xml:"userData"`
		Root        *xmlValue    `xml:"rootDeviceName"`
		Devices     []xmlDevice  `xml:"blockDeviceMapping>item"`
		Groups      []xmlGroupID `xml:"groupSet>item"`
	}
	out.InstanceID = id
	switch name {
	case "instanceInitiatedShutdownBehavior":
		out.OnShutdown = &xmlValue{in.OnShutdown}
	case "disableApiTermination":
		out.NoTerminate = &xmlValue{strconv.FormatBool(in.NoTerminate)}
	case "instanceType":
		out.Type = &xmlValue{in.Type}
	case "userData":
		out.UserData = &xmlValue{base64.StdEncoding.EncodeToString(in.UserData)}
	case "rootDeviceName":
		out.Root = &xmlValue{in.RootDevice}
	case "blockDeviceMapping":
		out.Devices = instanceXML(s, st, in).Devices
	case "groupSet":
		out.Groups = instanceXML(s, st, in).Groups
	default:
		return nil, fault.Invalid("attribute", name, "The local cloud does not know it.")
	}
	return out, nil
}
