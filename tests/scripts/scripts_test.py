"""Tests of the checking scripts: each must be able to fail."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

SCRIPTS = pathlib.Path(__file__).resolve().parents[2] / "scripts"


class ScriptTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name)

    def write(self, name, text):
        file = self.root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def run_script(self, name):
        done = subprocess.run(
            [sys.executable, "-B", SCRIPTS / name, self.root], capture_output=True, text=True
        )
        return done.returncode, done.stdout


class CheckIncludes(ScriptTest):
    def check(self, file, line):
        self.write(file, f"#pragma once\n\n{line}\n")
        return self.run_script("check_includes.py")

    def test_includes_to_the_left_pass(self):
        self.write("fovea/core/b.h", "#include <vector>\n")
        self.write("fovea/data/c.cpp", '#include "fovea/io/file.h"\n#include "fovea/data/d.h"\n')
        self.write("fovea/kernels/k.cpp", "#include <hwy/highway.h>\n")
        self.assertEqual(self.check("fovea/nn/a.h", "#include <torch/nn.h>")[0], 0)

    def test_violations_fail_with_their_place(self):
        for file, line, message in [
            ("fovea/core/a.h", '#include "fovea/pattern/pattern.h"', "core may not include pattern"),
            ("fovea/text/a.h", '#include "fovea/io/file.h"', "text may not include io"),
            ("fovea/reference/a.h", '#  include "fovea/kernels/k.h"', "may not include kernels"),
            ("fovea/core/a.h", '#include "fovea/cores/a.h"', "no such layer: cores"),
            ("fovea/io/a.cpp", "#include <torch/torch.h>", "io has no torch"),
            ("fovea/data/a.cpp", "#include <ATen/ATen.h>", "data has no torch"),
            ("fovea/attention/a.cpp", "#include <hwy/highway.h>", "included by kernels only"),
            ("fovea/nn/a.cpp", '#include "../ops/a.h"', "from the source root"),
            ("fovea/train/a.cpp", '#include "tools/cli/commands.h"', "may not include tools"),
        ]:
            with self.subTest(line):
                status, output = self.check(file, line)
                self.assertEqual(status, 1)
                self.assertIn(f"{file}:3: ", output)
                self.assertIn(message, output)
                (self.root / file).unlink()

    def test_unknown_folder_fails(self):
        self.assertEqual(self.check("fovea/extras/a.h", "#include <vector>")[0], 1)


class CheckFileSize(ScriptTest):
    def test_limit(self):
        self.write("fovea/core/a.cpp", "\n" * 550)
        self.assertEqual(self.run_script("check_file_size.py")[0], 0)
        self.write("fovea/core/a.cpp", "\n" * 551)
        self.assertEqual(self.run_script("check_file_size.py")[0], 1)


class CheckIsaObjects(ScriptTest):
    TABLE = "namespace fovea::kernels { struct Engine { int i; }; extern const Engine kTestEngine;" \
        " const Engine kTestEngine = {1}; }\n"

    def check(self, source):
        self.write("isa/test.cpp", source)
        file = self.root / "isa" / "test"
        compiler = os.environ.get("CXX", "c++")
        subprocess.run([compiler, "-O0", "-std=c++20", "-c", f"{file}.cpp", "-o", f"{file}.cpp.o"], check=True)
        command = [sys.executable, "-B", SCRIPTS / "check_isa_objects.py", f"{file}.cpp.o"]
        return subprocess.run(command, capture_output=True, text=True)

    def test_a_table_alone_passes(self):
        hidden = "namespace { int f(int a) { return a; } } static int g = f(1);\n"
        self.assertEqual(self.check(self.TABLE + hidden).returncode, 0)

    def test_other_symbols_fail(self):
        for line in [
            "inline long twice(long a) { return a * 2; } static long b = twice(3);",
            "#include <vector>\nstatic int sum(std::vector<int> a) { return a.at(0); } static int b = sum({1});",
        ]:
            with self.subTest(line):
                done = self.check(self.TABLE + line + "\n")
                self.assertEqual(done.returncode, 1)
                self.assertIn(".cpp.o: exports ", done.stdout)

    def test_a_missing_table_fails(self):
        self.assertEqual(self.check("static int a;\n").returncode, 1)


class CountTests(ScriptTest):
    def count(self, ctest, gtest=None, pytest=None):
        self.write("ctest.xml", f"<testsuite>{ctest}</testsuite>")
        for name, text in (gtest or {}).items():
            self.write(f"gtest/{name}.xml", f"<testsuites>{text}</testsuites>")
        if pytest is not None:
            self.write("pytest.xml", f"<testsuites>{pytest}</testsuites>")
        status, output = self.run_script("count_tests.py")
        return status, output.strip().splitlines()[-1]

    def test_programs_are_replaced_by_their_tests(self):
        ctest = '<testcase name="a" status="run"/><testcase name="b" status="run"/>'
        two = '<testcase name="x" status="run"/><testcase name="y" status="run"/>'
        self.assertEqual(self.count(ctest, {"a": two}), (0, "3 passed, 0 failed"))

    def test_failures_and_skips(self):
        ctest = '<testcase name="a" status="fail"><failure/></testcase>'
        own = (
            '<testcase status="run"><failure/></testcase><testcase status="run"/>'
            '<testcase status="run"><skipped/></testcase>'
        )
        self.assertEqual(self.count(ctest, {"a": own}), (1, "1 passed, 1 failed, 1 skipped"))

    def test_a_crash_is_a_failure_whatever_was_written(self):
        ctest = '<testcase name="a" status="fail"/>'
        self.assertEqual(self.count(ctest), (1, "0 passed, 1 failed"))
        self.assertEqual(self.count(ctest, {"a": "<testcase"})[0], 1)
        self.assertEqual(self.count(ctest, {"a": '<testcase status="run"/>'}), (1, "1 passed, 1 failed"))

    def test_pytest_is_added(self):
        ctest = '<testcase name="a" status="run"/>'
        self.assertEqual(self.count(ctest, pytest="<testcase/><testcase/>"), (0, "3 passed, 0 failed"))
        bad = "<testcase><error/></testcase>"
        self.assertEqual(self.count(ctest, pytest=bad), (1, "1 passed, 1 failed"))

    def test_no_test_is_a_failure(self):
        self.assertEqual(self.count("")[0], 1)


class Compare(ScriptTest):
    def compare(self, base, new):
        for name, times in [("base", base), ("new", new)]:
            rows = [json.dumps({"case": case, "ms_min": ms}) for case, ms in times]
            self.write(name, "\n".join(rows + ["{}"]))
        done = subprocess.run(
            [sys.executable, "-B", SCRIPTS.parent / "bench/compare.py", self.root / "base", self.root / "new"],
            capture_output=True, text=True,
        )
        return done.returncode, done.stdout + done.stderr

    def test_slower_beyond_the_noise_fails(self):
        base = [("a", 10.0), ("a", 10.2)]
        for new, status, word in [
            ([("a", 10.9), ("a", 11.0)], 1, "+9.0 %, noise 2.0 %: slower"),
            ([("a", 10.9), ("a", 12.0)], 0, "noise 10.1 %: same"),
            ([("a", 10.25), ("a", 10.3)], 0, ": same"),
            ([("a", 9.0), ("a", 9.1)], 0, "-10.0 %, noise 2.0 %: faster"),
            ([("a", 12.0)], 0, "noise ?: unsure"),
        ]:
            with self.subTest(new=new):
                got, output = self.compare(base, new)
                self.assertEqual(got, status, output)
                self.assertIn(word, output)

    def test_files_that_cannot_be_compared(self):
        self.assertEqual(self.compare([("a", 1.0)], [("b", 1.0)])[0], 2)
        self.assertEqual(self.compare([], [("b", 1.0)])[0], 2)


if __name__ == "__main__":
    unittest.main()
