//! Decimals in expressions.

use super::check_all;

const MIXED: &str =
    "(hint: say which is meant: to_float of the Decimal, or a Decimal(\"0.8\") instead of a float literal)";

#[test]
fn arithmetic() {
    check_all(&[
        ("(add p 1)", "Decimal \"-11.75\""),
        ("(add i p)", "Decimal \"-5.75\""),
        ("(sub p #0.750)", "Decimal \"-13.5\""),
        ("(mul p p)", "Decimal \"162.5625\""),
        ("(mul #0.000000001 #0.0000000005)", "Decimal \"0\""),
        ("(mul #0.000000001 #0.0000000015)", "Decimal \"0.000000000000000002\""),
        ("(add p pn)", "Decimal null"),
        ("(add p null)", "Decimal null"),
        ("(add pmax 1)", "Decimal null !overflow"),
        ("(sub (neg pmax) 1)", "Decimal null !overflow"),
        ("(mul pmax 10)", "Decimal null !overflow"),
        ("(mul max 10)", "int null !overflow"),
        ("(mul (to_decimal max) 10)", "Decimal \"92233720368547758070\""),
        ("(neg p)", "Decimal \"12.75\""),
        ("(abs p)", "Decimal \"12.75\""),
        ("(floor p)", "Decimal \"-13\""),
        ("(ceil p)", "Decimal \"-12\""),
        ("(ceil pmax)", "Decimal null !overflow"),
        ("(round p)", "Decimal \"-13\""),
        ("(round p 1)", "Decimal \"-12.8\""),
        ("(round #0.25 1)", "Decimal \"0.2\""),
        ("(floordiv p 5)", "Decimal \"-3\""),
        ("(mod p 5)", "Decimal \"2.25\""),
        ("(mod 5 p)", "Decimal \"-7.75\""),
        ("(floordiv p #0.0)", "Decimal null !division_by_zero"),
        ("(mod p 0)", "Decimal null !division_by_zero"),
        ("(floordiv pmax #0.001)", "Decimal null !overflow"),
    ]);
}

#[test]
fn what_is_always_a_float() {
    check_all(&[
        ("(div p 5)", "float -2.55"),
        ("(div p f)", "float -5.1"),
        ("(div i p)", "float -0.5490196078431373"),
        ("(div p 0)", "float null !division_by_zero"),
        ("(pow p 2)", "float 162.5625"),
        ("(sqrt #6.25)", "float 2.5"),
        ("(sqrt p)", "float null !not_finite"),
    ]);
}

#[test]
fn exact_does_not_meet_inexact_unsaid() {
    let add = format!("'add' takes numbers that are all exact or all floats, got Decimal and float {MIXED}");
    let fill = format!("'fill_null' arguments must be of one type, got Decimal and float {MIXED}");
    let branches = format!("the branches of 'when' must be of one type, got float and Decimal {MIXED}");
    let least = format!("'least' takes values of one type, got Decimal and float {MIXED}");
    check_all(&[
        ("(add p 0.5)", &add),
        ("(fill_null pn 0.5)", &fill),
        ("(when b 0.5 p)", &branches),
        ("(least p f)", &least),
        ("(add p s)", "'add' takes numbers, got Decimal and str"),
        ("(eq p s)", "'eq' takes values of one type, got Decimal and str"),
        ("(add p (to_decimal f))", "Decimal \"-10.25\""),
        ("(add (to_float p) f)", "float -10.25"),
    ]);
}

#[test]
fn comparison_with_any_number() {
    check_all(&[
        ("(eq p #-12.7500)", "bool true"),
        ("(lt p -12)", "bool true"),
        ("(gt p -13)", "bool true"),
        ("(eq #3 3)", "bool true"),
        ("(eq 3 #3.0)", "bool true"),
        ("(eq p -12.75)", "bool true"),
        ("(eq -12.75 p)", "bool true"),
        // The float nearest to 0.1 is a little more.
        ("(eq #0.1 0.1)", "bool false"),
        ("(lt #0.1 0.1)", "bool true"),
        ("(gt 0.1 #0.1)", "bool true"),
        ("(lt pmax 1000000000000000000000000000000.0)", "bool true"),
        ("(lt pn 1)", "bool null"),
        ("(least p 1)", "Decimal \"-12.75\""),
        ("(greatest p i)", "Decimal \"7\""),
        ("(fill_null pn 5)", "Decimal \"5\""),
        ("(when u p 1)", "Decimal \"1\""),
        ("(is_in p [1 #-12.75])", "bool true"),
        ("(is_in p [1 null])", "bool null"),
        ("(is_null pn)", "bool true"),
    ]);
}

#[test]
fn casts() {
    check_all(&[
        ("(to_int p)", "int -12"),
        ("(to_int pmax)", "int null !failed_cast"),
        ("(to_float p)", "float -12.75"),
        ("(to_float #0.1)", "float 0.1"),
        ("(to_str p)", "str \"-12.75\""),
        ("(to_bool p)", "bool true"),
        ("(to_bool #0.0)", "bool false"),
        ("(to_decimal p)", "Decimal \"-12.75\""),
        ("(to_decimal i)", "Decimal \"7\""),
        ("(to_decimal b)", "Decimal \"1\""),
        ("(to_decimal 0.1)", "Decimal \"0.1\""),
        ("(to_decimal (exp 1000.0))", "Decimal null !not_finite"),
        ("(to_decimal (pow 10 20))", "Decimal null !failed_cast"),
        ("(to_decimal \" 1.50 \")", "Decimal \"1.5\""),
        ("(to_decimal \"1.5x\")", "Decimal null !failed_cast"),
        (
            "(to_decimal t)",
            "'to_decimal' takes bool, int, float, Decimal or str, got datetime (hint: a datetime as a number is epoch_seconds or epoch_micros)",
        ),
        (
            "(add #1x 1)",
            "not a value: Decimal(\"1x\") (hint: NaN and the infinities are not values, a Decimal has 20 digits before and 18 after the point, bytes are base64)",
        ),
    ]);
}
