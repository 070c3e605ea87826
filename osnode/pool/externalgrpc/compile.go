// SPDX-License-Identifier: Apache-2.0

//go:build ignore

// Compile turns externalgrpc.proto into Go by the two standard plugins. The compiler is
// a Go library, so that protoc need not be installed.
package main

import (
	"bytes"
	"context"
	"fmt"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"slices"
	"strings"

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
	code := []byte(response.GetFile()[0].GetContent())
	if plugin == "protoc-gen-go-grpc" {
		if code, err = complete(code); err != nil {
			return err
		}
	}
	return os.WriteFile(file, code, 0o644)
}

// complete takes out what the plugin makes for servers that leave calls out, and cannot be told not to make: a type that
// refuses every call, the method that asks for it, and the imports for that. A server then has every call, or does not compile.
func complete(code []byte) ([]byte, error) {
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, "", code, parser.ParseComments)
	if err != nil {
		return nil, err
	}
	var kept []byte
	from := 0
	drop := func(start, end token.Pos) {
		kept = append(kept, code[from:files.Position(start).Offset]...)
		from = files.Position(end).Offset
	}
	ast.Inspect(file, func(node ast.Node) bool {
		switch node := node.(type) {
		case *ast.ImportSpec:
			if node.Name.Name == "codes" || node.Name.Name == "status" {
				drop(node.Pos(), node.End())
			}
		case *ast.GenDecl:
			spec, ok := node.Specs[0].(*ast.TypeSpec)
			if ok && optional(spec.Name.Name) {
				drop(node.Doc.Pos(), node.End())
				return false
			}
			if at := advice(node.Doc); ok && at > 0 {
				drop(node.Doc.List[at-1].End(), node.Doc.End())
			}
		case *ast.Field:
			if len(node.Names) == 1 && strings.HasPrefix(node.Names[0].Name, "mustEmbed") {
				drop(node.Pos(), node.End())
			}
		case *ast.FuncDecl:
			if node.Recv != nil {
				if of, ok := node.Recv.List[0].Type.(*ast.Ident); ok && optional(of.Name) {
					drop(node.Pos(), node.End())
					return false
				}
			}
		case *ast.IfStmt:
			if init, ok := node.Init.(*ast.AssignStmt); ok && bytes.Contains(code[files.Position(init.Pos()).Offset:files.Position(init.End()).Offset], []byte("testEmbeddedByValue")) {
				drop(before(file, node), node.End())
				return false
			}
		}
		return true
	})
	return format.Source(append(kept, code[from:]...))
}

// optional names the types for servers that leave calls out.
func optional(name string) bool {
	return strings.HasPrefix(name, "Unimplemented") || strings.HasPrefix(name, "Unsafe")
}

// advice is the index of the line in a comment that says what to embed, or -1.
func advice(comment *ast.CommentGroup) int {
	if comment == nil {
		return -1
	}
	return slices.IndexFunc(comment.List, func(line *ast.Comment) bool { return strings.Contains(line.Text, "must embed") })
}

// before is where the comment of a statement begins.
func before(file *ast.File, node ast.Node) token.Pos {
	start := node.Pos()
	for _, comment := range file.Comments {
		if comment.Pos() < node.Pos() && node.Pos()-comment.End() < 4 {
			start = comment.Pos()
		}
	}
	return start
}
