"""`ulsam-keras lint`."""

import json

import click

from converters.cli.guard import CONTEXT


@click.command(context_settings=CONTEXT, epilog="Example: ulsam-keras lint model.tflite")
@click.argument("file")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def lint(file: str, as_json: bool) -> int:
    """Check a .tflite FILE for what phones refuse or compute wrongly, without running it.

    Exit status 0: nothing found; 1: something found; 2: bad input. The reason codes are listed in
    docs/lint.md. That a file passes does not mean that a GPU runs it: run it with verify.
    """
    from dataclasses import asdict

    from converters.tflite import lint as check

    findings = check(file)
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=1))
    else:
        for finding in findings:
            click.echo(f"{finding.code} ({finding.severity}) at {finding.where}")
            click.echo(f"  {finding.symptom} {finding.meaning} {finding.advice}")
        plural = "s" if len(findings) > 1 else ""
        click.echo(f"{len(findings)} finding{plural}" if findings else "nothing found")
    return 1 if findings else 0
