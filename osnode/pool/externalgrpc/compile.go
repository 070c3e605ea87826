// SPDX-License-Identifier: Apache-2.0

//go:build ignore

// Compile turns externalgrpc.proto into Go by the two standard plugins. The compiler is
// a Go library, so that protoc need not be installed.
package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"

	"github.com/bufbuild/protocompile"
	"github.com/bufbuild/protocompile/protoutil"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

const source = "externalgrpc.proto"

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	compiler := protocompile.Compiler{
		Resolver:       protocompile.WithStandardImports(&protocompile.SourceResolver{}),
		SourceInfoMode: protocompile.SourceInfoStandard,
	}
	files, err := compiler.Compile(ctx, source)
	if err != nil {
		return err
	}
	request := &pluginpb.CodeGeneratorRequest{FileToGenerate: []string{source}, Parameter: proto.String("paths=source_relative")}
	addFile(request, files[0], map[string]bool{})
	for plugin, file := range map[string]string{"protoc-gen-go": "zz_generated.externalgrpc.pb.go", "protoc-gen-go-grpc": "zz_generated.externalgrpc_grpc.pb.go"} {
		if err := generate(ctx, plugin, file, request); err != nil {
			return fmt.Errorf("%s: %w", plugin, err)
		}
	}
	return nil
}

// addFile adds a file after those that it imports, as plugins want them.
func addFile(request *pluginpb.CodeGeneratorRequest, file protoreflect.FileDescriptor, done map[string]bool) {
	if done[file.Path()] {
		return
	}
	done[file.Path()] = true
	for i := range file.Imports().Len() {
		addFile(request, file.Imports().Get(i).FileDescriptor, done)
	}
	var descriptor *descriptorpb.FileDescriptorProto = protoutil.ProtoFromFileDescriptor(file)
	request.ProtoFile = append(request.ProtoFile, descriptor)
}

func generate(ctx context.Context, plugin, file string, request *pluginpb.CodeGeneratorRequest) error {
	in, err := proto.Marshal(request)
	if err != nil {
		return err
	}
	command := exec.CommandContext(ctx, "go", "tool", "-modfile=../../../go.tools.mod", plugin)
	command.Stdin, command.Stderr = bytes.NewReader(in), os.Stderr
	out, err := command.Output()
	if err != nil {
		return err
	}
	var response pluginpb.CodeGeneratorResponse
	if err := proto.Unmarshal(out, &response); err != nil {
		return err
	}
	if response.Error != nil {
		return fmt.Errorf("%s", response.GetError())
	}
	if len(response.GetFile()) != 1 {
		return fmt.Errorf("%d files instead of one", len(response.GetFile()))
	}
	return os.WriteFile(file, []byte(response.GetFile()[0].GetContent()), 0o644)
}
